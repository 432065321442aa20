"""examples/logsearch: one query to all shards finds what grep finds in all folders, the best first."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.support.modules import ROOT, built
from tests.support.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.long, pytest.mark.alone]  # starts processes, or a Ray cluster

SCRIPT = ROOT / "examples" / "logsearch" / "search.py"


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    built("searchd")  # outside the test's time
    for shard in ("eu", "us"):
        (tmp_path / shard).mkdir()
        for n in range(20):
            (tmp_path / shard / f"{n}.log").write_text(f"error in {shard}\n" + "disk " * n + "filler " * (30 - n))
    return [str(tmp_path / shard) for shard in ("eu", "us")]


def ask(folders: list[str], *queries: str, **environment: str) -> list[str]:
    """What the script prints for these queries."""
    done = subprocess.run([sys.executable, SCRIPT, *folders], input="\n".join(queries), capture_output=True, text=True,
                          timeout=2 * PATIENCE, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("environment", [{}, {"RAY_ADDRESS": "local"}], ids=["processes", "Ray"])
def test_a_query_finds_the_best_of_all_shards(folders: list[str], environment: dict[str, str]) -> None:
    if environment:
        pytest.importorskip("ray")
        pytest.importorskip("fsspec")
    lines = ask(folders, "disk", "error us", "...", **environment)
    hits = [line.split()[1].rsplit(":", 2)[0] for line in lines[:10]]
    # The more often a file has the word, the better; the same files are in both shards.
    assert sorted(hits) == sorted(f"{folder}/{n}.log" for folder in folders for n in range(15, 20))
    scores = [float(line.split()[0]) for line in lines[:10]]
    assert scores == sorted(scores, reverse=True)
    assert lines[10] == "10 of 38 files, in 2 shards"
    assert lines[21:] == ["10 of 20 files, in 2 shards", "query has no words: it needs letters, digits or underscores"]
    assert all(folders[1] in line and line.endswith(":1: error in us") for line in lines[11:21])


def test_a_shard_that_is_lost_costs_its_own_hits(folders: list[str]) -> None:
    script = runpy.run_path(str(SCRIPT))
    go = {folder: gothreads.remote(built("searchd"), args=["/logs"], mounts={"/logs": folder}, procs=1)
          for folder in folders}
    with script["on_processes"](go) as shards:
        wait_until(lambda: script["search"](shards, "error")[1:] == (40, []))
        kill_one(shards[folders[0]])
        for _ in range(2):  # when it is lost, and afterwards
            hits, total, notes = script["search"](shards, "error")
            assert (len(hits), total, notes) == (10, 20, [f"{folders[0]} is missing: BrokenProcessPool"])
            assert {folder for folder, _ in hits} == {folders[1]}


def kill_one(ask: Any) -> None:
    process, = ask.keywords["on"]._processes.values()
    process.kill()
    process.join()
