"""Go's own benchmarks side by side (benchmarks/std.py): what the tables say, and that a run goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.std import Row, slower, summary, table
from benchmarks.std_plan import FLOAT_LOOPS, KERNELS, PLAN, Package
from tests.support.modules import ROOT


def row(name: str, optimized: float, *, package: str = "sort", assembly: bool = False, threaded: float = 300.0) -> Row:
    return Row(package, name, assembly, {"native": 100.0, "stock": 400.0, "threaded": threaded, "optimized": optimized})


def kernels(**optimized: float) -> list[Row]:
    return [row(name, optimized.get(name, 100.0), package=KERNELS) for name in (*FLOAT_LOOPS, "Fib")]


def test_each_bar_has_its_figure() -> None:
    rows = [row("A", 200), row("B", 200), row("C", 1600, assembly=True), *kernels(FFT=150.0, Fib=160.0)]
    found = summary(rows)
    assert [each["value"] for each in found] == pytest.approx([2.0, 4.0, 1.0, 1.5, 1.6, 1])
    assert [each["reached"] for each in found] == [True, False, False, False, True, False]


def test_what_was_not_measured_is_not_reached() -> None:
    assert [found["reached"] for found in summary([row("A", 200)])] == [True, True, True, None, None, True]


def test_benchmarks_that_became_slower_are_listed_the_worst_first() -> None:
    rows = [row("A", 308), row("B", 312), row("C", 600), row("D", 100)]
    assert [found.name for found in slower(rows)] == ["C", "B"]
    assert "Slower with the optimizer than without: sort C 2.00, sort B 1.04.\n" in table(rows, "how")


def test_the_table_has_a_line_for_each_benchmark_and_the_mean_of_each_group() -> None:
    rows = [row("A", 200), row("B", 800), row("C", 1600, assembly=True), *kernels()]
    lines = table(rows, "how it was measured").splitlines()
    assert "| **std, no assembly in native Go: 2** | geometric mean | | 4.00 | 3.00 | 4.00 | 1.33 | 1.00 |" in lines
    assert "| **std, assembly in native Go: 1** | geometric mean | | 4.00 | 3.00 | 16.00 | 5.33 | 4.00 |" in lines
    assert "| sort | B | 100 ns | 4.00 | 3.00 | 8.00 | 2.67 | 2.00 |" in lines
    assert lines[-1] == "how it was measured"


def test_the_plan_is_as_large_as_it_has_to_be() -> None:
    std = [package for package in PLAN if package.path != KERNELS]
    assert len(std) >= 25
    assert sum(len(package.names) for package in std) >= 60
    assert all(len(set(package.names)) == len(package.names) for package in PLAN)
    (own,) = (package for package in PLAN if package.path == KERNELS)
    assert {*FLOAT_LOOPS, "Fib"} <= set(own.names)


def test_a_pattern_matches_the_benchmark_and_no_other() -> None:
    assert Package("strings", ("Map/identity/ASCII",), ("CountByte/10",)).pattern == (
        "^BenchmarkMap$/^identity$/^ASCII$|^BenchmarkCountByte$/^10$")


@pytest.mark.long
def test_a_second_run_takes_what_the_first_has_measured() -> None:
    def run(*more: str) -> Any:
        done = subprocess.run([sys.executable, "-m", "benchmarks.std", "--only", KERNELS, "--rounds", "1", "--time", "0.001",
                               "--json", *more], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    first = run("--again")
    assert {found["name"] for found in first["rows"]} >= {"Fib", "Sum"}
    assert all(found["nanoseconds"].keys() == {"native", "stock", "threaded", "optimized"} for found in first["rows"])
    assert run() == first
