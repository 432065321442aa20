"""The console script `gothreads`. Outside the package, because importing that fails where gothreads cannot run.

There, each command prints the reason in one line, and `gothreads doctor` prints it as a finding.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from typing import NoReturn


def run() -> NoReturn:
    gc.disable()  # what imports make stays: looking for garbage among it took an eighth of a command's start
    try:
        from gothreads.cli.main import run as run_command
    except ImportError as error:
        sys.exit(_say(error, sys.argv[1:]))
    except KeyboardInterrupt:  # as later, in cli/main.py
        sys.exit(128 + signal.SIGINT)
    gc.freeze()
    gc.enable()
    run_command()


def _say(error: ImportError, argv: list[str]) -> int:
    """Print the error; returns the exit code."""
    if argv[:1] != ["doctor"]:
        print(f"gothreads: {error}", file=sys.stderr)
    elif "--json" in argv:
        print(json.dumps({"findings": [{"name": error.name or "gothreads", "state": "problem", "words": str(error)}],
                          "ok": False}, indent=2))
    else:
        print(f"problem  {error.name or 'gothreads'}  {error}")
    return 1
