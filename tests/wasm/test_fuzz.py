"""Damaged, generated and lying modules: a few seconds, always the same, of what stress/fuzz_wasm.py tries for hours."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stress import mutations, seed_modules
from stress.fuzz_wasm import Generated, Inspect, Open, Parse, Pretend, Rewrite, Waits
from stress.fuzzing import Part, Plan, attempts


def outcomes(part: Part[Any], count: int, folder: Path) -> Mapping[str, int]:
    """The number of attempts by outcome; fails on a finding."""
    with part:
        report = attempts(part, Plan("stress.fuzz_wasm", 1, count=count, folder=folder))
    assert report.findings == []
    assert report.count == count
    return report.outcomes


@pytest.fixture
def small(linked: bytes) -> Mapping[str, bytes]:
    return seed_modules.small() | seed_modules.of_other_languages() | {"linked": seed_modules.shrunk(linked)}


@pytest.mark.long
def test_damaged_modules_are_read_and_written_or_refused(small: Mapping[str, bytes], tmp_path: Path) -> None:
    found = outcomes(Parse("parse", lambda: small), 500, tmp_path)
    assert found["the same bytes"] > 50
    assert found["refused"] > 100


def test_damaged_modules_are_inspected_or_refused(small: Mapping[str, bytes], tmp_path: Path) -> None:
    found = outcomes(Inspect("inspect", lambda: small), 500, tmp_path)
    assert found["inspected, single, foreign"] > 20
    assert found["refused"] > 100


@pytest.mark.long
def test_damaged_linked_modules_are_rewritten_or_refused(linked: bytes, linked_hostcalls: bytes,
                                                         tmp_path: Path) -> None:
    shrunk = {"calls": seed_modules.shrunk(linked), "hostcalls": seed_modules.shrunk(linked_hostcalls)}
    found = outcomes(Rewrite("rewrite", lambda: shrunk), 150, tmp_path)
    assert found["rewritten"] > 10
    assert found["refused"] > 50


def test_waits_are_replaced_in_damaged_modules_that_are_valid(small: Mapping[str, bytes], tmp_path: Path) -> None:
    threads = {title: small[title] for title in ("waits", "threads.c", "program.c")}
    found = outcomes(Waits("waits", lambda: threads), 300, tmp_path)
    assert found["rewritten"] > 30
    assert found["refused"] > 50


@pytest.mark.skipif(shutil.which("wasm-opt") is None, reason=seed_modules.INSTALL_BINARYEN)
def test_generated_modules_are_the_same_after_a_round_trip(tmp_path: Path) -> None:
    assert outcomes(Generated(), 20, tmp_path)["the same bytes, waits replaced"] > 3


@pytest.mark.long
def test_modules_that_lie_about_what_they_export_and_import_end_no_process(tmp_path: Path) -> None:
    found = outcomes(Pretend(), 120, tmp_path)
    assert found["refused"] > 50
    assert sum(found.values()) - found["refused"] > 10  # these passed the first checks


@pytest.mark.long
def test_damaged_modules_are_opened_called_and_closed_or_refused(small: Mapping[str, bytes], tmp_path: Path) -> None:
    plain = {title: wasm for title, wasm in small.items() if title != "linked"}
    found = outcomes(Open(lambda: plain, generate=False), 60, tmp_path)
    assert sum(count for outcome, count in found.items() if outcome.startswith("opened")) > 5


def test_a_case_is_the_same_whenever_it_is_made(small: Mapping[str, bytes]) -> None:
    first, second = (mutations.mutated(random.Random("1 parse 17"), small) for _ in range(2))
    assert first == second
