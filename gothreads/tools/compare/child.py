"""The process of one design: `python -m gothreads.tools.compare.child`. child_process.py has the protocol,
design_process.py the parent.
"""

from __future__ import annotations

from typing import Any

from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.child_process import answer_requests
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.fresh_workloads import Fresh
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.peers import HostFunction, Peer, open_peer
from gothreads.tools.compare.programs import Programs
from gothreads.tools.compare.workload import Workload


class Child:
    """Measures samples. The program stays open from one sample of a workload to the next, but not across workloads."""

    def __init__(self, design: Design, programs: Programs) -> None:
        self._design, self._programs = design, programs
        self._opened: tuple[Workload, Peer] | None = None

    def measure(self, name: str, point: int, plan: MeasurementPlan) -> Sample:
        """IncorrectResult, GothreadsError."""
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


def main() -> None:
    child: Child | None = None

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal child
        if request["do"] == "begin":
            child = Child(Design(**request["design"]), Programs.from_json(request["programs"]))
            return {}
        assert child is not None
        if request["do"] == "measure":
            plan = MeasurementPlan.from_json(request["plan"])
            return {"sample": child.measure(request["workload"], request["point"], plan).to_json()}
        child.close()
        return {}
    answer_requests(handle)


if __name__ == "__main__":
    main()
