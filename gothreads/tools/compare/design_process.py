"""The process of one design, as its parent sees it; child.py is the other end. For one thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from gothreads.tools.compare.child_process import ChildProcess
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.programs import Programs


class DesignProcess(ChildProcess):
    """Measures one sample after the other, on request."""

    def __init__(self, design: Design, programs: Programs, environment: Mapping[str, str] | None = None) -> None:
        self.design = design
        own = {"GOMAXPROCS": str(design.procs)} if design.model == "native" else {}
        super().__init__("gothreads.tools.compare.child", environment={**own, **(environment or {})})
        try:
            self.ask({"do": "begin", "design": asdict(design), "programs": programs.to_json()})
        except BaseException:
            self.kill()
            raise

    def measure(self, workload: str, point: int, plan: MeasurementPlan) -> Sample:
        """One sample. IncorrectResult; NotMeasured when it failed or the process has ended."""
        request = {"do": "measure", "workload": workload, "point": point, "plan": asdict(plan)}
        return Sample.from_json(self.ask(request)["sample"])

    def close_program(self) -> None:
        """Close the program that is open. The process stays."""
        self.ask({"do": "close"})
