"""Runs `gothreads compare`, and puts the table, the findings and the plots into docs/comparison.md.

    python -m benchmarks.comparison                      the full run, about a quarter of an hour
    python -m benchmarks.comparison --out report         the same, and keeps the whole report (HTML and JSON) there
    python -m benchmarks.comparison --from report.json   no run: renders what an earlier one measured

Leave the machine alone during a run. The table and the findings go into the document, the plots as PNG into the folder
beside it (docs/comparison/), and some figures of the four models into docs/models.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.command import check_calls_in_c
from benchmarks.document import missing, put
from gothreads.cli.main import main as gothreads
from gothreads.files import write_atomically
from gothreads.tools.compare.findings import findings
from gothreads.tools.compare.plots import Plot, plots
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.table import markdown, rows

DOCUMENT = Path(__file__).parent.parent / "docs" / "comparison.md"
_PLACE = "what was measured"
#: The page beside it that has some of the rows, without ratios; its place for them; and which.
_MODELS, _COSTS = "models.md", "what they cost"
_ROWS = ("cpu", "short", "callback", "blocking", "start", "memory")
#: Line drawings need few colours; with these, each plot stays below 100 KB.
_COLOURS, _DPI = 64, 110


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds through all designs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the whole report there")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="FILE", help="a report.json")
    parser.add_argument("--document", type=Path, default=DOCUMENT, metavar="FILE", help="(default: docs/comparison.md)")
    arguments = parser.parse_args()
    if arguments.earlier is None:
        check_calls_in_c(parser)
    if (why := missing(arguments.document, _PLACE)) is not None:
        parser.error(why)
    if arguments.earlier is not None:
        report = Report.from_json(json.loads(arguments.earlier.read_text()))
    else:
        with contextlib.ExitStack() as cleanup:
            folder = arguments.out or Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
            repeat = [] if arguments.repeat is None else ["--repeat", str(arguments.repeat)]
            if code := gothreads(["compare", "--out", str(folder), *repeat]):
                return code
            report = Report.from_json(json.loads((folder / "report.json").read_text()))
    write(report, arguments.document)
    return 0


def write(report: Report, document: Path) -> None:
    """Table and findings into the document, plots into the folder beside it."""
    folder = document.with_suffix("")
    folder.mkdir(exist_ok=True)
    for plot in plots(report):
        write_atomically(folder / f"{plot.name}.png", png(plot))
    put(document, _PLACE, markdown(report, findings(report)))
    if (models := document.with_name(_MODELS)).exists():
        put(models, _COSTS, costs(report))


def costs(report: Report) -> str:
    """What the four models cost, for docs/models.md."""
    names = {design.name: index for index, design in enumerate(report.present)
             if design.name in (report.reference.name, "single", "idle", "pool")}
    lines = [("", *names)]
    lines += [(f"{row.title}: {row.metric}", *(row.cells[index].value for index in names.values()))
              for row in rows(report) if row.name in _ROWS]
    return "".join(f"    {title:60}{''.join(f'{cell:>12}' for cell in cells)}\n" for title, *cells in lines)


def png(plot: Plot) -> bytes:
    with io.BytesIO() as drawn, io.BytesIO() as small:
        plot.whole().savefig(drawn, format="png", dpi=_DPI)
        image = Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        image.save(small, format="PNG", optimize=True)
        return small.getvalue()


if __name__ == "__main__":
    sys.exit(main())
