"""Runs `gothreads compare`, and puts its table and its findings into docs/comparison.md; the plots and the whole report go beside it.

    python -m benchmarks.comparison                      the full run, about a quarter of an hour: leave the machine alone meanwhile
    python -m benchmarks.comparison --from report.json   no run: what an earlier one has measured, shown as this gothreads shows it
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.command import check_calls_in_c
from benchmarks.document import missing, put
from gothreads.cli.main import main as gothreads
from gothreads.tools.compare.findings import findings
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.writing import write

DOCUMENT = Path(__file__).parent.parent / "docs" / "comparison.md"
_PLACE = "what was measured"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds through all designs")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="FILE", help="a report.json")
    parser.add_argument("--document", type=Path, default=DOCUMENT, metavar="FILE", help="(default: docs/comparison.md)")
    arguments = parser.parse_args()
    if arguments.earlier is None:
        check_calls_in_c(parser)
    folder = arguments.document.with_suffix("")
    if arguments.earlier is not None:
        report = Report.from_json(json.loads(arguments.earlier.read_text()))
        folder.mkdir(exist_ok=True)
        write(report, findings(report), folder)
    elif code := gothreads(["compare", "--out", str(folder), *([] if arguments.repeat is None else ["--repeat", str(arguments.repeat)])]):
        return code
    if (why := missing(arguments.document, _PLACE)) is not None:
        print(why, file=sys.stderr)
        return 1
    put(arguments.document, _PLACE, (folder / "table.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
