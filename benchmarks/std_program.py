"""Runs a test program that Go has linked for WebAssembly, on one proc, with the clock of benchmarks/std.py.

    python -m benchmarks.std_program [--optimize] FILE [ARGS…]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from gothreads.build.test_program import Rewriting
from gothreads.cli.aside import aside
from gothreads.cli.go_exec import LIMITS, load_linked
from gothreads.launch import open_loaded
from gothreads.wasi.settings import Mount


def cpu_time() -> int:
    """The nanoseconds of CPU time that this process has used."""
    return time.process_time_ns()


def main(arguments: list[str]) -> int:
    optimize = arguments[0] == "--optimize"
    file, *rest = arguments[optimize:]
    loaded = load_linked(Path(file), Rewriting(optimize=optimize))
    with open_loaded(loaded, args=rest, env=dict(os.environ) | {"PWD": os.getcwd(), "GOMAXPROCS": "1"},
                     mounts=[Mount(Path("/"), "/")], allow_net=["*:*", "unix:*"], limits=LIMITS, callers=1,
                     host={"benchmark": {"cpu_time": cpu_time}}, no_calls=True, main_calls=False) as app:
        return aside(app.wait)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
