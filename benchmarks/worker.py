"""A process for each design: native Go takes signals over that wasmtime needs, and memory is a process's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping

from gothreads.tools.compare.programs import Programs

#: Measures once: by what it is of, a figure.
Measure = Callable[[], dict[str, float]]
#: Opens a design's program.
Design = Callable[[Programs], Measure]


class Worker:
    """A design of a benchmark (such as benchmarks.call_path), in a process of its own. `environment`: what it has beside this one's."""

    def __init__(self, benchmark: str, design: str, programs: Programs, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", benchmark, "--worker", design, json.dumps(programs.to_json())],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | dict(environment or {}))

    def measure(self) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


def work(designs: Mapping[str, Design]) -> bool:
    """When this process is a worker: a measurement for each line of standard input, to its end. False when it is not."""
    if "--worker" not in sys.argv:
        return False
    name, programs = sys.argv[-2:]
    measure = designs[name](Programs.from_json(json.loads(programs)))
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)
    return True
