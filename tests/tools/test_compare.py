"""gothreads compare: its checks find what is wrong, its report has all that was measured, and its findings follow from
the numbers.
"""

from __future__ import annotations

import argparse
import io
import itertools
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import psutil
import pytest

from benchmarks import comparison
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.cli.main import COMMANDS, main
from gothreads.cli.parser import parse
from gothreads.files import cache_folder
from gothreads.output.terminal import Terminal
from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.child import Child
from gothreads.tools.compare.command import compare
from gothreads.tools.compare.designs import designs
from gothreads.tools.compare.findings import findings
from gothreads.tools.compare.measurement_plan import MeasurementPlan, full, quick
from gothreads.tools.compare.programs import SOURCE, Programs, build_programs
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.report_files import write
from gothreads.tools.compare.runner import Comparison
from gothreads.tools.compare.workload import IncorrectResult, Workload
from tests.support.command_line import command, process
from tests.support.modules import ROOT
from tests.support.waiting import PATIENCE, under_load

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
    figures = re.findall(r'<figure id="plot-(\w+)">\s*<div class="legend">(.*?)</div>\s*'
                         r'<div class="panels">(.*?)\s*</div>\s*<figcaption>', html, re.DOTALL)
    panels = {name: re.findall(r"<svg.*?</svg>", drawn, re.DOTALL) for name, _, drawn in figures}
    assert {name: len(drawn) for name, drawn in panels.items()} == {
        "timeline": 1, "throughput": 2, "latency": 4, "memory": 1, "bytes": 1}
    assert [len(re.findall("<svg", legend)) for _, legend, _ in figures] == [1] * 5
    for svg in itertools.chain.from_iterable(panels.values()):
        assert len(list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"))) > 10
    assert [name for name, count in Counter(re.findall(r'\bid="([^"]+)"', html)).items() if count > 1] == []
    missing = set(re.findall(r"(?:url\(|xlink:href=\")#([^\")]+)", html)) - set(re.findall(r'\bid="([^"]+)"', html))
    assert missing == set()
    for name in panels:
        whole = ElementTree.parse(folder / f"{name}.svg")
        assert len(list(whole.iter("{http://www.w3.org/2000/svg}path"))) > 10
    cells = re.findall(r"<td.*?>", html)
    assert len(cells) >= 8 * 6
    assert all('data-design="' in cell for cell in cells)  # the design is shown in each cell on a narrow screen
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


def figures(rows: list[list[str]]) -> set[tuple[str, str, str]]:
    """The cells of a table: a row's title, the design, the value without its ratio."""
    (_, *designs), *others = ([cell.partition(" ×")[0].strip() for cell in row] for row in rows)
    return {(title, design, value) for title, *values in others
            for design, value in zip(designs, values, strict=True)}


def of_comparison(page: Path) -> set[tuple[str, str, str]]:
    return figures([line.strip("|").split("|") for line in page.read_text().splitlines() if line.startswith("| ")])


def of_models(page: Path) -> set[tuple[str, str, str]]:
    return figures([[line[4:64], *(line[place:place + 12] for place in range(64, len(line), 12))]
                    for line in page.read_text().partition("what they cost: begin -->\n")[2].partition("<!--")[0].splitlines()
                    if line.startswith("    ")])


def test_the_pages_agree_about_what_the_models_cost() -> None:
    found = of_models(ROOT / "docs" / "models.md")
    assert len(found) == 6 * 4
    assert found <= of_comparison(ROOT / "docs" / "comparison.md")


@pytest.mark.long
def test_the_document_gets_the_table_and_small_pngs(
        small_run: tuple[dict[str, Any], Path, str], tmp_path: Path) -> None:
    document = tmp_path / "comparison.md"
    document.write_text("before\n<!-- what was measured: begin -->\n<!-- what was measured: end -->\nafter\n")
    models = tmp_path / "models.md"
    models.write_text("<!-- what they cost: begin -->\n<!-- what they cost: end -->\n")
    comparison.write(Report.from_json(small_run[0]), document)
    assert of_models(models) <= of_comparison(document)
    assert of_models(models)
    assert (small_run[1] / "table.md").read_text() in document.read_text()
    written = {file.name: file for file in (tmp_path / "comparison").iterdir()}
    assert written.keys() == {f"{name}.png" for name in ("timeline", "throughput", "latency", "memory", "bytes")}
    assert all(file.stat().st_size <= 100_000 for file in written.values())


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


@pytest.mark.long
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
    assert err.endswith("argument --repeat: '0' is not a whole number from 1 to 1000\ntry: gothreads compare --help\n")
    assert command("compare", "cpu", "--", "more")[0] == 2


def test_the_list_describes_all_workloads() -> None:
    code, out, err = command("compare", "--list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == list(WORKLOADS)
    listed = json.loads(command("compare", "--list", "cpu", "start", "--json")[1])
    assert [found["name"] for found in listed] == ["cpu", "start"]
    assert all(found["about"] and found["metrics"] for found in listed)


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


@pytest.mark.long
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
    for line in lines:
        words = line.split()
        if words[0] == "gothreads":
            arguments: argparse.Namespace = parse(COMMANDS, words[1:])
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
