"""gothreads compare: findings, figures and tables follow from the numbers."""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.designs import Design, designs
from gothreads.tools.compare.figures import Figure, Latencies, Sample, median_ratio, ratio
from gothreads.tools.compare.findings import findings, verdict
from gothreads.tools.compare.formatting import number, place, times
from gothreads.tools.compare.machine import Machine
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.report import Report, Result
from gothreads.tools.compare.rounds import in_rounds, interleaved
from gothreads.tools.compare.table import markdown, rows, show

PLAN = MeasurementPlan(
    quick=True, repeats=2, seconds=0.01, background_seconds=0.25, quiet_seconds=0.1, threads=(1, 2), waiting=(1, 4),
    sizes=(64, 4096),
    callers=(2,), heap_callers=(1, 2), heap_megabytes=2, fresh_repeats=1, meetings=5)


def machine(**changes: Any) -> Machine:
    return replace(Machine("a processor", 2, 8 << 30, "Linux", "3.11", "go1.27", "50", "0.1", 0.1, 0.01), **changes)


def findings_of(numbers: dict[tuple[str, str, int], Sequence[dict[str, float]]]) -> list[str]:
    """The findings of a report with these values of each round, by workload, design and point."""
    names = list(dict.fromkeys(workload for workload, _, _ in numbers))
    results = [Result(workload, design, point, samples=[Sample(values) for values in rounds])
               for (workload, design, point), rounds in numbers.items()]
    found = findings(Report(machine(), replace(PLAN, quick=False), designs(2), names, results=results))
    return [f"{finding.kind}: {finding.text}" for finding in found]


def findings_without_summary(numbers: dict[tuple[str, str, int], Sequence[dict[str, float]]]) -> list[str]:
    """The same without the summary."""
    return [text for text in findings_of(numbers) if not text.startswith("short: ")]


def rates(*values: float) -> list[dict[str, float]]:
    return [{"rate": value} for value in values]


def test_wins_and_losses_follow_from_ratios_whose_rounds_agree() -> None:
    found = findings_of({("cpu", "threaded-2", 2): rates(190, 200, 180), ("cpu", "single", 2): rates(100, 100, 100),
                  ("cpu", "native", 2): rates(400, 390, 380),
                  ("cpu", "pool", 2): rates(190, 199, 182), ("cpu", "idle", 2): rates(300, 100, 170)})
    assert found == [
        "short: single, compared with threaded-2: worse in 1 of 1 workload (cpu).",
        "short: idle, compared with threaded-2: undecided in 1 of 1 workload (cpu), as the rounds disagree.",
        "short: pool, compared with threaded-2: within 5% in 1 of 1 workload (cpu).",
        "short: native, compared with threaded-2: better in 1 of 1 workload (cpu).",
        "wins: A call that computes, 2 threads: 190/s (calls) with threaded-2, which is 1.90 times better than single "
        "[1.80–2.00].",
        "loses: A call that computes, 2 threads: 190/s (calls) with threaded-2; native is 2.11 times better "
        "[1.95–2.11].",
        "even: A call that computes, 2 threads: pool is within 5% of threaded-2.",
        "trust: The rounds of 1 of 4 ratios differ by more than 40%. The findings count a ratio only if all its rounds "
        "agree on which design is better; with 2 rounds, they agree by chance in 50% of cases."]


def test_the_summary_says_how_many_workloads_of_how_many() -> None:
    found = findings_of({
        ("cpu", "threaded-2", 2): rates(100, 100), ("cpu", "single", 2): rates(50, 50),
        ("loops", "threaded-2", 2): rates(100, 100), ("loops", "single", 2): rates(40, 40),
        ("alloc", "threaded-2", 2): rates(100, 100), ("alloc", "single", 2): rates(200, 200),
        ("shards", "threaded-2", 2): rates(100, 100), ("shards", "single", 2): rates(60, 150)})
    assert found[0] == ("short: single, compared with threaded-2: better in 1 of 4 workloads (alloc); worse in 2 (cpu, "
                        "loops); undecided in 1 (shards), as the rounds disagree.")


def test_green_is_better_for_the_reader_and_red_is_worse() -> None:
    shown = io.StringIO()
    found = {"threaded-2": rates(100, 100), "single": rates(50, 50), "native": rates(200, 200)}
    report = Report(machine(), PLAN, designs(2), ["cpu"], results=[
        Result("cpu", design, 2, samples=[Sample(values) for values in rounds]) for design, rounds in found.items()])
    show(report, [], Console(file=shown, force_terminal=True, color_system="standard", width=120))
    green, red = "\x1b[32m", "\x1b[31m"
    assert re.findall(r"(\x1b\[3[12]m) *(×\S+?)\x1b", shown.getvalue()) == [(red, "×0.50"), (green, "×2.00")]


def test_metrics_where_lower_is_better_are_inverted() -> None:
    found = findings_without_summary({("idle-cpu", "threaded-2", 1): [{"idle": 0.002}] * 2,
                            ("idle-cpu", "single", 1): [{"idle": 0.001}] * 2})
    assert found == ["loses: Doing nothing: 0.2 % (CPU time while there is nothing to do) with threaded-2; single is "
                     "2.00 times better [2.00–2.00]."]


def test_more_processors_help_or_do_not() -> None:
    found = findings_without_summary({("cpu", "threaded-1", 2): rates(100, 100),
                                      ("cpu", "threaded-2", 2): rates(190, 190),
                            ("lock", "threaded-1", 2): rates(100, 100),
                  ("lock", "threaded-2", 2): rates(80, 70)})
    assert found == ["scales: With 2 threads that call, threaded-2 is better than threaded-1 in a call that computes "
                     "(1.90 times as good).",
                     "scales: With 2 threads that call, threaded-2 is no better than threaded-1 in shared state under "
                     "one lock (0.75 times as good)."]


def test_designs_that_stand_still_are_distinguished_from_slow_ones() -> None:
    found = findings_without_summary({("background", "threaded-2",
                                       1): [{"between": 1000, "alone": 0.002, "beside": 0.004}],
                            ("background", "idle", 1): [{"between": 10}],
                  ("background", "single", 1): [{"between": 0}], ("background", "pool", 1): [{"between": 0}]})
    assert found[:2] == [
        "between: Steps of background work while no call is in the module: threaded-2 1k/s, idle 10/s. With single and "
        "pool, nothing runs.",
        "between: Median time of a call without that work → beside it: threaded-2 2 ms → 4 ms."]


def test_memory_against_a_pool_is_reported_at_the_most_callers_up_to_64() -> None:
    found = findings_without_summary({("memory-data", name, point): [{"resident": value}] * 2 for name, point, value in (
        ("threaded-2", 1, 70e6), ("threaded-2", 2, 80e6), ("pool", 1, 70e6), ("pool", 2, 1600e6), ("native", 2, 40e6))})
    assert found == ["loses: 2 blocked callers, with 2 MB of data, take 40 MB with native; with threaded-2, 2.00 times "
                     "as much [2.00–2.00].",
                     "memory: 2 blocked callers, with 2 MB of data, take 80 MB with threaded-2 and 1.60 GB in a pool "
                     "of 2 instances: 20.0 times as much [20.0–20.0]."]


def test_one_sample_decides_nothing() -> None:
    found = findings_of({("cpu", "threaded-2", 2): rates(200), ("cpu", "single", 2): rates(100),
                         ("memory", "threaded-2", 2): [{"resident": 80e6}], ("memory", "pool", 2): [{"resident": 1600e6}],
                         ("memory", "native", 2): [{"resident": 40e6}]})
    assert [text for text in found if "was not measured" not in text] == [
        "short: single, compared with threaded-2: undecided in 1 of 2 workloads (cpu), measured once.",
        "short: pool, compared with threaded-2: undecided in 1 of 2 workloads (memory), measured once.",
        "short: native, compared with threaded-2: undecided in 1 of 2 workloads (memory), measured once.",
        "memory: 2 blocked callers take 80 MB with threaded-2 and 1.60 GB in a pool of 2 instances: 20.0 times as much "
        "[one sample]."]
    assert verdict(Figure(2.0, 2.0, 2.0, 1)) == "once"


@pytest.mark.parametrize(("others", "single", "why"), [
    (0.5, (100, 100), "Other processes used 50% of the processors during the run"),
    (0.01, (50, 100), "The rounds of 1 of 1 ratios differ by more than 40%")])
def test_a_disturbed_run_compares_nothing(others: float, single: tuple[int, int], why: str) -> None:
    report = Report(machine(others=others), replace(PLAN, quick=False), designs(2), ["cpu"], results=[
        Result("cpu", "threaded-2", 2, samples=[Sample(values) for values in rates(200, 200)]),
        Result("cpu", "single", 2, samples=[Sample(values) for values in rates(*single)])])
    assert [(finding.kind, finding.text) for finding in findings(report)] == [
        ("trust", f"{why}. So the designs are not compared: measure again on a quiet machine.")]
    assert {cell.verdict for row in rows(report) for cell in row.cells} == {""}


def test_other_load_interruptions_and_wrong_results_are_reported() -> None:
    missing = {"native": "there is no C compiler (gcc), which cgo needs"}
    report = Report(machine(others=0.5), PLAN, designs(2), ["cpu", "meet"], missing, interrupted=True, results=[
        Result("cpu", "threaded-2", 2, samples=[Sample({"rate": 1})]),
        Result("cpu", "single", 2, samples=[None], problems=["compute: 1 where it must be 2"], wrong=True),
        Result("cpu", "pool", 2, samples=[None], problems=["its process ended (-9)"])])
    text = "\n".join(f"{finding.kind}: {finding.text}" for finding in findings(report))
    assert text.startswith("wrong: A call that computes, 2 threads: single: compute: 1 where it must be 2\n")
    assert "cannot: native was not measured: there is no C compiler (gcc), which cgo needs." in text
    assert "cannot: cpu at 2: pool failed: its process ended (-9)" in text
    assert "trust: Other processes used 50% of the processors during the run" in text
    assert "trust: The run was interrupted" in text
    assert "| WRONG | – | failed |" in markdown(report, [])
    assert [row.name for row in rows(report)] == ["cpu"]


def test_ratios_are_of_the_same_round() -> None:
    assert ratio([1, 20, None, 4], [2, 10, 7, 0]) == Figure(1.25, 0.5, 2.0, 2)
    assert verdict(Figure(1.5, 0.9, 2, 3)) == "open"
    assert verdict(Figure(1.02, 0.9, 2, 3)) == "open"
    assert verdict(Figure(1.02, 0.9, 1.1, 3)) == "even"
    assert verdict(None) == "open"


def test_each_round_has_every_job_and_every_other_round_runs_backwards() -> None:
    assert list(in_rounds("ab", 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    order: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)
    samples = interleaved({name: functools.partial(measure, name) for name in "ab"}, 2)
    assert order == ["a", "b", "b", "a"]
    assert samples == {"a": [1, 4], "b": [2, 3]}


def test_the_median_ratio_is_of_rounds_not_of_medians() -> None:
    assert median_ratio([2, 9, 4], [1, 3, 4]) == 2
    with pytest.raises(ValueError, match="no round has both figures"):
        median_ratio([], [])


def test_percentiles_need_enough_calls() -> None:
    found = Latencies.of([1234] * 989 + [56789] * 11)
    assert found.percentile(50) == 1200e-9
    assert found.percentile(99) == 57000e-9
    assert found.percentile(99.9) is None
    assert Latencies.from_json(json.loads(json.dumps(found.to_json()))).buckets == found.buckets
    assert Latencies().percentile(50) is None


def test_numbers_have_their_units() -> None:
    assert [number(value, "/s") for value in (3, 1234, 45.678e6)] == ["3/s", "1.23k/s", "45.7M/s"]
    times_taken = [number(value, "s") for value in (1.5, 0.0123, 4.5e-6, 250e-9)]
    assert times_taken == ["1.50 s", "12.3 ms", "4.50 µs", "250 ns"]
    assert number(76.8e6, "bytes") == "76.8 MB"
    assert number(0.0031, "CPU s/s") == "0.31 %"
    assert [times(value) for value in (0.5, 12.34, 1234)] == ["0.50", "12.3", "1,234"]
    places = [place(WORKLOADS[name](), point)
              for name, point in (("cpu", 1), ("cpu", 2), ("bytes", 1 << 20), ("timers", 1))]
    assert places == ["1 thread", "2 threads", "1 MiB", ""]


def test_the_design_that_others_are_compared_with_is_threaded() -> None:
    assert [design.name for design in designs(1)][:1] == ["threaded-1"]
    report = Report(machine(), PLAN, designs(4), [])
    assert report.reference == Design("threaded-4", "threaded", 4, None,
                                      "one module on threads, 4 procs, as gothreads rewrites it")
