"""Measuring: round after round through all designs, each in its own process. For one thread."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.child_process import NotMeasured
from gothreads.tools.compare.design_process import DesignProcess
from gothreads.tools.compare.designs import Design, designs
from gothreads.tools.compare.fresh_workloads import ColdStart
from gothreads.tools.compare.machine import OtherLoad, this_machine
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.programs import Programs
from gothreads.tools.compare.report import Report, Result
from gothreads.tools.compare.rounds import in_rounds
from gothreads.tools.compare.workload import IncorrectResult, Workload

#: Called before each sample: the workload, what is measured, how many samples are done, and of how many.
Progress = Callable[[Workload, str, int, int], None]


class Comparison:
    """Fills a report. However `run` ends, its processes have ended and the report has what was measured until then."""

    def __init__(self, programs: Programs, plan: MeasurementPlan, processors: int, workloads: Sequence[str],
                 chosen: Sequence[Design] | None = None) -> None:
        """chosen: the designs to compare (default: all)."""
        self._programs, self._plan = programs, plan
        self._processes: dict[str, DesignProcess] = {}
        compared = list(chosen or designs(processors, quick=plan.quick))
        self.report = Report(this_machine(processors, programs.go), plan, compared, list(workloads),
                             begun=datetime.now().astimezone().isoformat(timespec="seconds"))
        if programs.native is None:
            self.report.missing["native"] = programs.no_native or "it was not built"
        self._workloads = [WORKLOADS[name]() for name in workloads]

    def run(self, progress: Progress = lambda _workload, _what, _done, _total: None) -> Report:
        """Measure everything. KeyboardInterrupt passes through, with `report.interrupted` set."""
        begin, other_load = time.monotonic(), OtherLoad()
        total = sum(len(self._jobs(workload)) * self._repeats(workload) for workload in self._workloads)
        done = 0
        try:
            for workload in self._workloads:
                repeats = self._repeats(workload)
                for number, (design, result) in in_rounds(self._jobs(workload), repeats):
                    where = f", {result.point:,} {workload.axis}" if workload.axis else ""
                    progress(workload, f"{workload.name}{where}: {design.name}, round {number + 1} of {repeats}", done,
                             total)
                    self._sample(workload, design, result)
                    done += 1
                self._close_programs()
        except KeyboardInterrupt:
            self.report.interrupted = True
            raise
        finally:
            for process in self._processes.values():
                process.kill()
            self._processes.clear()
            self.report.seconds = time.monotonic() - begin
            self.report.machine = replace(self.report.machine, others=other_load.share())
        return self.report

    def _repeats(self, workload: Workload) -> int:
        return self._plan.fresh_repeats if workload.fresh else self._plan.repeats

    def _jobs(self, workload: Workload) -> list[tuple[Design, Result]]:
        """What to measure in each round.

        The results are in the report from now on, together with the results of what cannot be measured.
        """
        jobs = []
        for point in workload.points(self._plan):
            for design in self.report.present:
                result = self.report.result(workload.name, design.name, point)
                if result not in self.report.results:
                    result.cannot = workload.cannot(design, point, self._plan)
                    self.report.results.append(result)
                if result.cannot is None:
                    jobs.append((design, result))
        return jobs

    def _sample(self, workload: Workload, design: Design, result: Result) -> None:
        try:
            if workload.fresh:
                with self._fresh_process(workload, design) as process:
                    sample = process.measure(workload.name, result.point, self._plan)
            else:
                sample = self._process(design).measure(workload.name, result.point, self._plan)
            result.samples.append(sample)
        except (NotMeasured, IncorrectResult) as error:
            result.samples.append(None)
            result.problems.append(str(error))
            result.wrong |= isinstance(error, IncorrectResult)

    def _fresh_process(self, workload: Workload, design: Design) -> DesignProcess:
        if not isinstance(workload, ColdStart):
            return DesignProcess(design, self._programs)
        with contextlib.ExitStack() as cleanup:
            cache = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="gothreads-compare-"))
            process = DesignProcess(design, self._programs, {"GOTHREADS_CACHE": cache})
            process.when_killed(cleanup.pop_all().close)
            return process

    def _process(self, design: Design) -> DesignProcess:
        process = self._processes.get(design.name)
        if process is None or not process.alive:
            if process is not None:
                process.kill()
                del self._processes[design.name]
            process = self._processes[design.name] = DesignProcess(design, self._programs)
        return process

    def _close_programs(self) -> None:
        """Leave nothing of one workload open when the next begins."""
        for process in self._processes.values():
            with contextlib.suppress(NotMeasured):
                process.close_program()
