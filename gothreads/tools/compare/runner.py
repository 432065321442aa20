"""Measuring: round after round through all designs, each in its own process. For one thread."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.designs import Design, designs
from gothreads.tools.compare.machine import Meanwhile, look
from gothreads.tools.compare.plan import Plan
from gothreads.tools.compare.process import NotMeasured, Process
from gothreads.tools.compare.programs import Programs
from gothreads.tools.compare.report import Report, Result
from gothreads.tools.compare.work_fresh import ColdStart
from gothreads.tools.compare.workload import Workload, WrongResult

#: Told before each sample: the workload, what is measured, how many are done, of how many.
Tell = Callable[[Workload, str, int, int], None]


class Runner:
    """Fills a report. Whatever ends `run`, the processes have ended, and the report has what was measured until then."""

    def __init__(self, programs: Programs, plan: Plan, processors: int, workloads: Sequence[str], chosen: Sequence[Design] | None = None) -> None:
        """chosen: designs to be compared; all unless told otherwise."""
        self._programs, self._plan = programs, plan
        self._processes: dict[str, Process] = {}
        self.report = Report(look(processors, programs.go), plan, list(chosen or designs(processors, quick=plan.quick)), list(workloads),
                             begun=datetime.now().astimezone().isoformat(timespec="seconds"))
        if programs.native is None:
            self.report.missing["native"] = programs.no_native or "it was not built"
        self._workloads = [WORKLOADS[name]() for name in workloads]

    def run(self, tell: Tell = lambda _workload, _what, _done, _of: None) -> Report:
        """Measure all. KeyboardInterrupt passes, with `report.interrupted` set."""
        begin, meanwhile = time.monotonic(), Meanwhile()
        total = sum(len(self._jobs(workload)) * self._repeats(workload) for workload in self._workloads)
        done = 0
        try:
            for workload in self._workloads:
                jobs, repeats = self._jobs(workload), self._repeats(workload)
                for repeat in range(repeats):
                    for design, result in jobs if repeat % 2 == 0 else reversed(jobs):  # what drifts falls on the first as on the last
                        where = f", {result.point:,} {workload.axis}" if workload.axis else ""
                        tell(workload, f"{workload.name}{where}: {design.name}, round {repeat + 1} of {repeats}", done, total)
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
            self.report.machine = replace(self.report.machine, others=meanwhile.others())
        return self.report

    def _repeats(self, workload: Workload) -> int:
        return self._plan.fresh_repeats if workload.fresh else self._plan.repeats

    def _jobs(self, workload: Workload) -> list[tuple[Design, Result]]:
        """What is to be measured in each round; their results are in the report from now on, as are those of what cannot be."""
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
                with self._fresh(workload, design) as process:
                    sample = process.measure(workload.name, result.point, self._plan)
            else:
                sample = self._process(design).measure(workload.name, result.point, self._plan)
            result.samples.append(sample)
        except (NotMeasured, WrongResult) as error:
            result.samples.append(None)
            result.problems.append(str(error))
            result.wrong |= isinstance(error, WrongResult)

    def _fresh(self, workload: Workload, design: Design) -> Process:
        if not isinstance(workload, ColdStart):
            return Process(design, self._programs)
        with contextlib.ExitStack() as made:
            cache = made.enter_context(tempfile.TemporaryDirectory(prefix="gothreads-compare-"))
            process = Process(design, self._programs, {"GOTHREADS_CACHE": cache})
            process.when_killed(made.pop_all().close)
            return process

    def _process(self, design: Design) -> Process:
        process = self._processes.get(design.name)
        if process is None or not process.alive:
            if process is not None:
                process.kill()
                del self._processes[design.name]
            process = self._processes[design.name] = Process(design, self._programs)
        return process

    def _close_programs(self) -> None:
        """Nothing of one workload is left when the next begins."""
        for process in self._processes.values():
            with contextlib.suppress(NotMeasured):
                process.close_program()
