"""A process for each design: native Go takes over signals that wasmtime needs, and memory belongs to a whole process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from gothreads.tools.compare.child_process import ChildProcess, answer_requests
from gothreads.tools.compare.programs import Programs

#: Measures once: figures by name.
Measure = Callable[[], dict[str, float]]
#: Opens a design's program.
Design = Callable[[Programs], Measure]


class Worker(ChildProcess):
    """One design of a benchmark module (such as benchmarks.call_path), in its own process."""

    def __init__(self, benchmark: str, design: str, programs: Programs,
                 environment: Mapping[str, str] | None = None) -> None:
        super().__init__(benchmark, ["--worker", design, json.dumps(programs.to_json())], environment)

    def measure(self) -> dict[str, float]:
        """One sample. NotMeasured when it failed."""
        figures: dict[str, float] = self.ask({})
        return figures


def work(designs: Mapping[str, Design]) -> bool:
    """When this process is a worker: measure once for each request, then exit. False when it is not a worker."""
    if "--worker" not in sys.argv:
        return False
    name, programs = sys.argv[-2:]
    measure = designs[name](Programs.from_json(json.loads(programs)))
    answer_requests(lambda _request: dict(measure()))
    return True
