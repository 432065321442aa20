"""What a port of Go is likely to get wrong, checked with threads, from inside (tests/modules/semantics) and outside."""

from __future__ import annotations

import functools
import gzip
import io
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import gothreads
from gothreads.build.toolchain import find_go
from tests.support.modules import built
from tests.support.waiting import PATIENCE, slowness, together, under_load, wait_until

pytestmark = pytest.mark.long  # a program of their own is built


@pytest.fixture(scope="module")
def semantics() -> Path:
    return built("semantics")


@pytest.fixture
def app(semantics: Path) -> Iterator[gothreads.App]:
    with gothreads.open(semantics, procs=4) as running:
        yield running


@pytest.mark.parametrize("check", [
    "monotonic", "timers in order", "large frames", "range loops", "reflect loops", "aligned atomics",
    "unaligned atomics", "pool", "finalizers",
    "cleanups", "weak", "gomaxprocs", "goroutines", "locked threads", "stack growth",
])
def test_inside(app: gothreads.App, check: str) -> None:
    app.request(check)


@pytest.mark.parametrize("check", ["range loops", "large frames", "pool", "finalizers"])
def test_inside_without_preemption(check: str) -> None:
    with gothreads.open(built("semantics", preemption=False), procs=4) as app:
        app.request(check)


def test_the_clocks_of_all_threads_agree_with_the_hosts_to_a_microsecond(app: gothreads.App) -> None:
    wrong: list[int] = []

    def read() -> None:
        for _ in range(500):
            before = time.monotonic_ns()
            seen = app.exports.clock()
            wrong.append(max(before - seen, seen - time.monotonic_ns()))
    together(*[read] * 16)
    assert max(wrong) <= 1000


def test_timers_fire_in_time_and_not_early(app: gothreads.App) -> None:
    assert int(app.request("timers")) < under_load(50_000)  # microseconds


def test_timers_fire_while_nobody_calls(semantics: Path) -> None:
    with gothreads.open(semantics, args=["tick"]) as app:
        before, begin = int(app.request("ticks")), time.monotonic()
        time.sleep(1.0)
        ticks, seconds = int(app.request("ticks")) - before, time.monotonic() - begin
        # A ticker drops ticks that are not received in time: of 50 a second there may be fewer, never more.
        assert 25 / slowness() <= ticks <= seconds / 0.02 + 1


def test_threads_stop_being_locked(app: gothreads.App) -> None:
    for _ in range(3):
        app.request("locked threads")

    def ended() -> int:
        threads = app.statistics().threads
        assert threads is not None
        return threads.started - threads.running
    wait_until(lambda: ended() >= 25)  # 30 goroutines ended locked to their threads; one may be main's first


def test_the_number_of_processors(semantics: Path) -> None:
    with gothreads.open(semantics) as app:
        assert app.request("cpus").split() == [str(len(os.sched_getaffinity(0))).encode()] * 2
    with gothreads.open(semantics, procs=3, env={"GOMAXPROCS": "2"}) as app:
        assert app.request("cpus") == b"3 2"


@pytest.mark.parametrize(("procs", "memory", "env", "goal"), [
    (1, 3 << 30, {}, 16), (2, 3 << 30, {}, 32), (8, 3 << 30, {}, 64), (2, 96 << 20, {}, 6), (2, 32 << 20, {}, 4),
    (2, 3 << 30, {"GOGC": "25"}, 8), (2, 3 << 30, {"GOMEMLIMIT": "8MiB"}, 5),
])
def test_a_small_heap_grows_with_the_processors_and_with_what_memory_there_may_be(
        calls: Path, procs: int, memory: int, env: dict[str, str], goal: int) -> None:
    traced = io.BytesIO()
    with gothreads.open(calls, procs=procs, limits=gothreads.Limits(memory=memory), env=env | {"GODEBUG": "gctrace=1"},
                        stderr=traced) as app:
        assert app.exports.heap() < 4 << 20
    goals = list(map(int, re.findall(r" (\d+) MB goal, .* MB stacks", traced.getvalue().decode())))
    assert len(goals) == 2
    assert goals[-1] == goal if "GOMEMLIMIT" not in env else goals[-1] <= goal


def test_deep_recursion_works_and_too_deep_is_said(semantics: Path) -> None:
    with gothreads.open(semantics) as app:
        assert app.request("recurse", "200000") == b"200000"
    with gothreads.open(semantics,
                        stderr=io.BytesIO()) as app, pytest.raises(gothreads.GuestPanic, match="stack overflow"):
        app.request("recurse", "100000000")


def test_schedtrace(semantics: Path, tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as stderr, gothreads.open(semantics, procs=2,
                                                                    env={"GODEBUG": "schedtrace=50"}, stderr=stderr):
        time.sleep(0.5)
    lines = re.findall(r"SCHED (\d+)ms: gomaxprocs=2 idleprocs=\d threads=\d+ .*runqueue=\d+ \[",
                       (tmp_path / "stderr").read_text())
    assert len(lines) >= 3
    assert sorted(map(int, lines)) == list(map(int, lines))


def test_stacks_of_all_goroutines(app: gothreads.App) -> None:
    text = app.request("stacks of all").decode()
    assert text.count("main.waitsHere(") == 5
    assert text.startswith("goroutine ")
    assert "main.main()" in text


def go_tool(*arguments: str | os.PathLike[str], cwd: Path) -> str:
    done = subprocess.run([find_go().go, "tool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE,
                          env=os.environ | {"GOTOOLCHAIN": "local"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def profiled_seconds(function: str, *options: str, profile: Path) -> float:
    top = go_tool("pprof", "-top", "-cum", "-unit=s", *options, profile.name, cwd=profile.parent)
    found = re.search(rf"([\d.]+)s +[\d.]+% +main\.{function}$", top, re.MULTILINE)
    assert found is not None, top
    return float(found[1])


def test_a_cpu_profile_has_calls_that_are_shorter_than_a_sample(semantics: Path, tmp_path: Path) -> None:
    with gothreads.open(semantics, procs=4) as app:
        app.request("begin cpu profile")
        begin = time.thread_time()
        while time.thread_time() - begin < 1:
            app.exports.burns()
        (tmp_path / "cpu").write_bytes(app.request("end cpu profile"))
    assert profiled_seconds("burns", profile=tmp_path / "cpu") > 0.5


def test_a_cpu_profile_shows_where_the_time_goes(app: gothreads.App, tmp_path: Path) -> None:
    seconds = functools.partial(profiled_seconds, profile=tmp_path / "cpu")
    for _ in range(2):  # a second profile is like the first
        (tmp_path / "cpu").write_bytes(app.request("cpu profile"))
        much, little = seconds("burns90"), seconds("burns10")
        assert 4 < much / little < 20, (much, little)  # 9
        for name in ("first", "second"):
            assert seconds("burns90", f"-tagfocus=name={name}") < much  # each has a part of it


def test_profiles_that_go_tool_pprof_reads(app: gothreads.App, tmp_path: Path) -> None:
    (tmp_path / "goroutine").write_bytes(app.request("goroutine profile"))
    (tmp_path / "heap").write_bytes(app.request("heap profile"))
    assert gzip.decompress((tmp_path / "heap").read_bytes())
    waiting = re.search(r" 5 +\S+ +main\.waitsHere$", go_tool("pprof", "-top", "-cum", "goroutine", cwd=tmp_path),
                        re.MULTILINE)
    assert waiting is not None
    top = go_tool("pprof", "-top", "-sample_index=inuse_space", "-unit=MB", "heap", cwd=tmp_path)
    sampled = re.search(r"^\s*([\d.]+)MB .*main\.allocatesHere$", top, re.MULTILINE)
    assert sampled is not None, top
    assert 32 <= float(sampled[1]) <= 128  # 64 were allocated; sampling estimates it


def test_an_execution_trace_that_go_tool_trace_reads(app: gothreads.App, tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(app.request("trace"))
    events = go_tool("trace", "-d=parsed", "trace", cwd=tmp_path)
    assert len(re.findall(r"StateTransition .*GoID=\d+ Running->Waiting", events)) >= 20
    assert len(set(re.findall(r"\bM=(\d+)", events))) >= 2
    times = [int(t) for t in re.findall(r"Time=(\d+)", events)]
    assert times == sorted(times)
