"""gothreads compare: its checks find what is wrong, its report has all that was measured, and its findings follow from
the numbers.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import psutil
import pytest

from benchmarks import comparison
from gothreads.build.builder import Request, build
from gothreads.build.toolchain import find_go
from gothreads.cli.main import main
from gothreads.cli.parser import parse
from gothreads.files import cache_folder
from gothreads.terminal import Terminal
from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.child import Child
from gothreads.tools.compare.command import compare
from gothreads.tools.compare.designs import Design, designs
from gothreads.tools.compare.figures import Figure, Latencies, Sample, median_ratio, ratio
from gothreads.tools.compare.findings import findings, verdict
from gothreads.tools.compare.formatting import number, place, times
from gothreads.tools.compare.machine import Machine
from gothreads.tools.compare.measurement_plan import MeasurementPlan, full, quick
from gothreads.tools.compare.programs import SOURCE, Programs, build_programs
from gothreads.tools.compare.report import Report, Result
from gothreads.tools.compare.report_files import write
from gothreads.tools.compare.rounds import in_rounds, interleaved
from gothreads.tools.compare.runner import Comparison
from gothreads.tools.compare.table import markdown, rows
from gothreads.tools.compare.workload import IncorrectResult, Workload
from tests.support.command_line import command, process
from tests.support.modules import ROOT
from tests.support.waiting import PATIENCE, under_load

ROOT = ROOT
TINY = MeasurementPlan(
    quick=True, repeats=2, seconds=0.01, background_seconds=0.25, quiet_seconds=0.1, threads=(1, 2), waiting=(1, 4),
    sizes=(64, 4096),
    callers=(2,), heap_callers=(1, 2), heap_megabytes=2, fresh_repeats=1, meetings=5)
THREADED = next(design for design in designs(2) if design.name == "threaded-2")

#: The mistakes made in the program: one for each thing that is checked.
WRONG = {
    "calls.go": (("return a + b }", "return a - b }"), ("payload[0] ^= 0xff", "payload[1] ^= 0xff"),
                 ("sum += int64(i * number)", "sum += int64(i + number)"), ("found++", "found += 2"),
                 ("letters += length", "letters += length + 1"), ("value = hostCall(value)", "value = hostCall(0)")),
    "shared.go": (("t.counts[i%512]++", "if i != 7 {\n\t\t\tt.counts[i%512]++\n\t\t}"),),
    "waiting.go": (("r.answer <- r.value * 2", "r.answer <- r.value * 3"), ("meeting.round++", "meeting.round += 2"),
                   ("to <- token + 1", "to <- token")),
    "background.go": (("time.Now().UnixNano())", "time.Now().UnixNano()-int64(len(*times))<<30)"),),
    "memory.go": (("sum := int64(0)", "sum := int64(1)"),),
}


@pytest.fixture(scope="module")
def wrong_programs() -> Programs:
    """The program with all mistakes; always in the same folder, so that it is compiled once."""
    folder = cache_folder() / "tests" / "wrong-workloads"
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    for name, edits in WRONG.items():
        text = (folder / name).read_text()
        for right, wrong in edits:
            assert text.count(right) == 1, right
            text = text.replace(right, wrong)
        (folder / name).write_text(text)
    built = build(Request(str(folder)))
    return Programs(built.path, built.path, None, "it is not needed", {}, built.toolchain.version)


@pytest.mark.long
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_wrong_result_is_found(wrong_programs: Programs, name: str) -> None:
    child = Child(THREADED, wrong_programs)
    try:
        with pytest.raises(IncorrectResult, match="where it must be"):
            child.measure(name, WORKLOADS[name]().points(TINY)[-1], TINY)
    finally:
        child.close()


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """A small run: its JSON, the folder that it wrote, and its messages."""
    out, err, folder = io.StringIO(), io.StringIO(), tmp_path_factory.mktemp("report")
    chosen = ["cpu", "short", "bytes", "blocking", "meet", "background", "timers", "memory"]
    assert compare(TINY, chosen, 2, Terminal(out, err), folder, as_json=True, go=None) == 0, err.getvalue()
    return json.loads(out.getvalue()), folder, err.getvalue()


@pytest.mark.long
def test_the_json_has_all_that_was_measured(small_run: tuple[dict[str, Any], Path, str]) -> None:
    report, folder, said = small_run
    assert json.loads((folder / "report.json").read_text()) == report
    names = [design["name"] for design in report["designs"]]
    assert names == ["threaded-1", "threaded-2", "single", "idle", "pool", "native"]
    assert report["reference"] == "threaded-2"
    assert not report["interrupted"]
    assert report["machine"]["processors"] == 2
    present = {design["name"] for design in report["designs"] if design["missing"] is None}
    for workload in report["workloads"]:
        kind = WORKLOADS[workload["name"]]()
        assert {(result["design"], result["point"])
                for result in workload["results"]} == {(name, point) for name in present for point in kind.points(TINY)}
        for result in workload["results"]:
            assert (result["problems"], result["wrong"]) == ([], False)
            if result["cannot"]:
                assert " " in result["cannot"]
                assert result["rounds"] == []
                continue
            assert len(result["rounds"]) == (TINY.fresh_repeats if kind.fresh else TINY.repeats)
            figure = result["figures"][kind.metrics[0].name]
            assert figure["low"] <= figure["median"] <= figure["high"]
            assert set(result["figures"]) == {metric.name for metric in kind.metrics}
            if result["design"] == "threaded-2" and figure["low"]:
                assert result["better_than_reference"][kind.metrics[0].name]["median"] == 1
    assert said.count("measuring ") == 8
    latencies = next(result["latencies"]
                     for result in report["workloads"][1]["results"] if result["design"] == "threaded-2")
    assert latencies["p50"] <= latencies["p90"]


@pytest.mark.long
def test_what_goes_on_between_calls_is_what_the_models_promise(small_run: tuple[dict[str, Any], Path, str]) -> None:
    found = {workload["name"]: {result["design"]: result["figures"] for result in workload["results"]}
             for workload in small_run[0]["workloads"]}
    for design, figures in found["background"].items():
        assert (figures["between"]["high"] == 0) == (design in ("single", "pool")), design
    for design, figures in found["timers"].items():
        assert (figures["fired"]["high"] == 0) == (design in ("single", "pool")), design


@pytest.mark.long
def test_what_a_design_cannot_do_is_reported(small_run: tuple[dict[str, Any], Path, str]) -> None:
    cannot = {(workload["name"], result["design"]) for workload in small_run[0]["workloads"]
              for result in workload["results"] if result["cannot"]}
    assert cannot == {("meet", "single"), ("meet", "idle"), ("meet", "pool"), ("memory", "single"), ("memory", "idle")}


@pytest.mark.long
def test_the_html_is_self_contained_and_its_plots_are_complete(small_run: tuple[dict[str, Any], Path, str]) -> None:
    report, folder, _ = small_run
    html = (folder / "report.html").read_text()
    assert not re.search(r"<script|<link (?!rel=\"icon\" href=\"data:,)|@import|\bsrc=|url\((?!#)", html)
    drawn = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawn) == 5
    for svg in drawn:
        assert len(list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"))) > 10
    assert [name for name, count in Counter(re.findall(r'\bid="([^"]+)"', html)).items() if count > 1] == []
    missing = set(re.findall(r"(?:url\(|xlink:href=\")#([^\")]+)", html)) - set(re.findall(r'\bid="([^"]+)"', html))
    assert missing == set()
    for name in ("timeline", "throughput", "latency", "memory", "bytes"):
        ElementTree.parse(folder / f"{name}.svg")
    for finding in report["findings"]:
        assert finding["text"].split(":")[0].split("'")[0] in html


@pytest.mark.long
def test_a_report_can_be_rendered_again_from_its_json(small_run: tuple[dict[str, Any], Path, str],
                                                      tmp_path: Path) -> None:
    report = Report.from_json(small_run[0])
    again = findings(report)
    assert [finding.to_json() for finding in again] == small_run[0]["findings"]
    write(report, again, tmp_path)
    assert (tmp_path / "table.md").read_text() == (small_run[1] / "table.md").read_text()


@pytest.mark.long
def test_the_document_gets_the_table_and_small_pngs(
        small_run: tuple[dict[str, Any], Path, str], tmp_path: Path) -> None:
    document = tmp_path / "comparison.md"
    document.write_text("before\n<!-- what was measured: begin -->\n<!-- what was measured: end -->\nafter\n")
    comparison.write(Report.from_json(small_run[0]), document)
    assert (small_run[1] / "table.md").read_text() in document.read_text()
    written = {file.name: file for file in (tmp_path / "comparison").iterdir()}
    assert written.keys() == {f"{name}.png" for name in ("timeline", "throughput", "latency", "memory", "bytes")}
    assert all(file.stat().st_size <= 100_000 for file in written.values())


def machine(**changes: Any) -> Machine:
    return replace(Machine("a processor", 2, 8 << 30, "Linux", "3.11", "go1.27", "50", "0.1", 0.1, 0.01), **changes)


def findings_of(numbers: dict[tuple[str, str, int], Sequence[dict[str, float]]]) -> list[str]:
    """The findings of a report with these values of each round, by workload, design and point."""
    names = list(dict.fromkeys(workload for workload, _, _ in numbers))
    results = [Result(workload, design, point, samples=[Sample(values) for values in rounds])
               for (workload, design, point), rounds in numbers.items()]
    found = findings(Report(machine(), replace(TINY, quick=False), designs(2), names, results=results))
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
        "short: single, against threaded-2: worse in 1 (cpu).",
        "short: idle, against threaded-2: now better, now worse in 1 (cpu).",
        "short: pool, against threaded-2: as good in 1 (cpu).", "short: native, against threaded-2: better in 1 (cpu).",
        "wins: A call that computes, 2 threads: 190/s (calls) in threaded-2; that is 1.90 times [1.80–2.00] better "
        "than single.",
        "loses: A call that computes, 2 threads: 190/s (calls) in threaded-2. "
        "Better: native (2.11 times [1.95–2.11]).",
        "even: A call that computes, 2 threads: threaded-2 and pool.",
        "trust: 1 of 4 ratios differ by more than 40% from round to round. The findings above use only ratios whose "
        "rounds all agree on which design is better; with 2 rounds, 50% of chance results agree, too."]


def test_metrics_where_lower_is_better_are_inverted() -> None:
    found = findings_without_summary({("idle-cpu", "threaded-2", 1): [{"idle": 0.002}] * 2,
                            ("idle-cpu", "single", 1): [{"idle": 0.001}] * 2})
    assert found == ["loses: Doing nothing: 0.2 % (CPU time while there is nothing to do) in threaded-2. Better: "
                     "single (2.00 times [2.00–2.00])."]


def test_more_processors_help_or_do_not() -> None:
    found = findings_without_summary({("cpu", "threaded-1", 2): rates(100, 100),
                                      ("cpu", "threaded-2", 2): rates(190, 190),
                            ("lock", "threaded-1", 2): rates(100, 100),
                  ("lock", "threaded-2", 2): rates(80, 70)})
    assert found == ["scales: With 2 threads that call, 2 procs give more than one: a call that computes (1.90 times).",
                     "scales: With 2 threads that call, 2 procs give no more than one: shared state, one lock (0.75 "
                     "times)."]


def test_designs_that_stand_still_are_distinguished_from_slow_ones() -> None:
    found = findings_without_summary({("background", "threaded-2",
                                       1): [{"between": 1000, "alone": 0.002, "beside": 0.004}],
                            ("background", "idle", 1): [{"between": 10}],
                  ("background", "single", 1): [{"between": 0}], ("background", "pool", 1): [{"between": 0}]})
    assert found[:2] == [
        "between: Steps of work in the background, while no call is in. threaded-2: 1k/s, idle: 10/s. None at all: "
        "single and pool, which stand still.",
        "between: What that work does to a call (median, without it → beside it). threaded-2: 2 ms → 4 ms."]


def test_memory_against_a_pool_is_reported_at_the_most_callers_up_to_64() -> None:
    found = findings_without_summary({("memory-data", name, point): [{"resident": value}] for name, point, value in (
        ("threaded-2", 1, 70e6), ("threaded-2", 2, 80e6), ("pool", 1, 70e6), ("pool", 2, 1600e6), ("native", 2, 40e6))})
    assert found == ["loses: 2 blocked callers, with data of 2 MB: native takes 40 MB, and threaded-2 2 times "
                     "as much.".replace("2 times", "2.00 times"),
                     "memory: 2 blocked callers, with data of 2 MB: 80 MB in threaded-2, 1.60 GB in a pool of 2 "
                     "instances, 20.0 times as much."]


def test_other_load_interruptions_and_wrong_results_are_reported() -> None:
    missing = {"native": "there is no C compiler (gcc), which cgo needs"}
    report = Report(machine(others=0.5), TINY, designs(2), ["cpu", "meet"], missing, interrupted=True, results=[
        Result("cpu", "threaded-2", 2, samples=[Sample({"rate": 1})]),
        Result("cpu", "single", 2, samples=[None], problems=["compute: 1 where it must be 2"], wrong=True),
        Result("cpu", "pool", 2, samples=[None], problems=["its process ended (-9)"])])
    text = "\n".join(f"{finding.kind}: {finding.text}" for finding in findings(report))
    assert text.startswith("wrong: A call that computes, 2 threads: single: compute: 1 where it must be 2\n")
    assert "cannot: native was not measured: there is no C compiler (gcc), which cgo needs." in text
    assert "cannot: cpu at 2: pool failed: its process ended (-9)" in text
    assert "trust: Other processes used 50% of the processors meanwhile" in text
    assert "trust: It was interrupted" in text
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


@pytest.mark.parametrize("processors", [1, 2, 6])
def test_plans_and_designs_fit_the_machine(processors: int) -> None:
    names = [design.name for design in designs(processors)]
    assert names[-4:] == ["single", "idle", "pool", "native"]
    assert f"threaded-{processors}" in names
    for plan in (full(processors), quick(processors)):
        assert MeasurementPlan.from_json(json.loads(json.dumps(plan.__dict__))) == plan
        assert processors in plan.threads
        for kind in WORKLOADS.values():
            assert kind().headline(plan, processors) in kind().points(plan)


def test_a_machine_without_a_c_compiler_has_no_native_design(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    programs = build_programs()
    assert programs.native is None
    assert programs.no_native == "there is no C compiler (no-such-compiler), which cgo needs"


def test_usage_errors_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert command("compare",
                   "cpuu") == (1, "", f"gothreads: there is no workload 'cpuu'; there are: {', '.join(WORKLOADS)}\n")
    assert command("compare", "--out", file) == (1, "", f"gothreads: cannot make the folder {file}: File exists\n")
    code, out, err = command("compare", "cpu", "--go", "/no/go")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("gothreads: one of Go ")
    code, _, err = command("compare", "--repeat", "0")
    assert code == 2
    assert err.endswith("argument --repeat: '0' is not a whole number from 1 to 1000\n")
    assert command("compare", "cpu", "--", "more")[0] == 2


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    script = ("import sys; sys.modules['matplotlib'] = None; from gothreads.cli.main import main; "
              "sys.exit(main(['compare', 'cpu']))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout,
            done.stderr) == (1, "", "gothreads: gothreads compare needs matplotlib: pip install 'gothreads[compare]'\n")


@pytest.mark.long
def test_ctrl_c_ends_it_with_a_line_and_keeps_what_was_measured(tmp_path: Path) -> None:
    with process("compare", "--quick", "--repeat", 1, "callback", "timers", "--out", tmp_path) as running:
        said: list[str] = []
        assert running.stderr is not None
        for line in running.stderr:
            said.append(line.decode())
            if "measuring timers" in said[-1]:
                break
        children = psutil.Process(running.pid).children()
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert err.decode() == f"gothreads: interrupted; what was measured until then is in {tmp_path / 'report.html'}\n"
    assert "Go calls Python" in out.decode()
    assert json.loads((tmp_path / "report.json").read_text())["interrupted"] is True
    assert len(children) >= 5
    assert not any(child.is_running() for child in children)
    assert time.monotonic() - begin < under_load(30)


@pytest.mark.long
def test_a_process_that_ends_is_restarted_and_reported() -> None:
    chosen = [design for design in designs(1) if design.name in ("threaded-1", "single")]
    runner = Comparison(build_programs(native=False), replace(TINY, repeats=3, quiet_seconds=1.0), 1, ["idle-cpu"],
                        chosen)

    def progress(_workload: Workload, what: str, _done: int, _of: int) -> None:
        if "single, round 2" in what:
            threading.Timer(0.3, runner._processes["single"]._process.kill).start()
    report = runner.run(progress)
    problems = {result.design: result.problems for result in report.results}
    assert problems == {"threaded-1": [], "single": ["its process ended (-9)"]}
    assert [sample is not None for sample in report.result("idle-cpu", "single", 1).samples] == [True, False, True]
    texts = [f"{finding.kind}: {finding.text}" for finding in findings(report)]
    assert "cannot: idle-cpu at 1: single failed: its process ended (-9)" in texts
    assert runner._processes == {}


def test_the_program_is_formatted_and_vetted() -> None:
    toolchain = find_go()
    gofmt = toolchain.goroot / "bin" / "gofmt"
    assert subprocess.run([gofmt, "-l", SOURCE], capture_output=True, text=True, check=True).stdout == ""
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    subprocess.run([toolchain.go, "vet", "."], cwd=SOURCE, check=True, env=environment, capture_output=True)


def test_the_commands_of_the_document_are_right_and_its_plots_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "comparison.md").read_text()
    lines = [line.split("  ")[0].strip() for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
             for line in block.splitlines()]
    assert len(lines) >= 4
    functions = dict.fromkeys(("build", "init", "run", "call", "inspect", "doctor", "serve", "compare", "stress"),
                              lambda _arguments, _terminal: 0)
    for line in lines:
        words = line.split()
        if words[0] == "gothreads":
            arguments: argparse.Namespace = parse(functions, words[1:])
            assert set(arguments.workloads) <= set(WORKLOADS)
        elif words[:2] == ["python", "-m"]:
            subprocess.run([sys.executable, "-m", words[2], "--help"], cwd=ROOT, check=True, capture_output=True)
        else:
            assert words[:2] == ["pip", "install"], line
    plots = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(plots) >= 4
    for plot in plots:
        assert matplotlib.image.imread(ROOT / "docs" / plot).shape[1] > 500
        assert (ROOT / "docs" / plot).stat().st_size <= 100_000
    generated = {f"comparison/{name}.png" for name in ("timeline", "throughput", "latency", "memory", "bytes")}
    assert set(plots) == generated == {f"comparison/{file.name}" for file in (ROOT / "docs" / "comparison").iterdir()}
    assert main(["compare", "--help"]) == 0
    assert "--quick" in capsys.readouterr().out


def test_the_design_that_others_are_compared_with_is_threaded() -> None:
    assert [design.name for design in designs(1)][:1] == ["threaded-1"]
    report = Report(machine(), TINY, designs(4), [])
    assert report.reference == Design("threaded-4", "threaded", 4, None,
                                      "one module on threads, 4 procs, as gothreads rewrites it")
