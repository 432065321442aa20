"""The process of one design: `python -m gothreads.tools.compare.child`. A request a line on standard input, an answer a line on standard output.

It ends when its standard input does: with the process that began it, however that ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from gothreads.errors import GothreadsError
from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.peers import HostFunction, Peer, open_peer
from gothreads.tools.compare.plan import Plan
from gothreads.tools.compare.programs import Programs
from gothreads.tools.compare.work_fresh import Fresh
from gothreads.tools.compare.workload import Workload, WrongResult


class Child:
    """Measures what it is asked to. The program stays open from one sample of a workload to the next, and no longer."""

    def __init__(self, design: Design, programs: Programs) -> None:
        self._design, self._programs = design, programs
        self._opened: tuple[Workload, Peer] | None = None

    def measure(self, name: str, point: int, plan: Plan) -> Sample:
        """WrongResult, GothreadsError."""
        kind = WORKLOADS[name]
        if issubclass(kind, Fresh):
            fresh = kind()
            return fresh.measure_fresh(lambda host: self._open(fresh, host, point), point, plan)
        if self._opened is None or type(self._opened[0]) is not kind:
            self.close()
            workload = kind()
            self._opened = workload, self._open(workload, workload.host(), point)
        workload, peer = self._opened
        return workload.measure(peer, point, plan)

    def close(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _open(self, workload: Workload, host: HostFunction, point: int) -> Peer:
        return open_peer(self._design, self._programs, host, workload.instances(self._design, point))


def serve(read: Callable[[], str], write: Callable[[str], None]) -> None:
    """Answer requests until there are no more."""
    child: Child | None = None
    while line := read():
        request: dict[str, Any] = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            match request["do"]:
                case "begin":
                    child = Child(Design(**request["design"]), Programs.from_json(request["programs"]))
                case "measure":
                    assert child is not None
                    answer["sample"] = child.measure(request["workload"], request["point"], Plan.from_json(request["plan"])).to_json()
                case "close":
                    assert child is not None
                    child.close()
        except WrongResult as error:
            answer = {"wrong": str(error)}
        except (GothreadsError, MemoryError, OSError, RuntimeError) as error:  # RuntimeError: no more threads
            answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        write(json.dumps(answer) + "\n")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the program prints is not an answer

    def write(line: str) -> None:
        answers.write(line)
        answers.flush()
    serve(sys.stdin.readline, write)


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # natively, goroutines may still run
