"""Profiles of a running module from outside. The module `calls` does not import runtime/pprof; `semantics` does."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.callback_m import CallbackM
from gothreads.profiles.profile import Profile
from gothreads.runtime.goroutine_profile import goroutine_profile
from gothreads.runtime.inspector import parse_goroutines
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.runtime.profile_questions import Question
from gothreads.runtime.profiler import KINDS, Profiler
from tests.support.go_tools import go_tool
from tests.support.modules import opened
from tests.support.waiting import PATIENCE, wait_until

LOCK, UNLOCK = "sync.(*Mutex).Lock", "sync.(*Mutex).Unlock"


@contextmanager
def running(call: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Context in which threads make calls, again and again."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                call()
            except gothreads.GothreadsError:
                return
    made = [threading.Thread(target=run) for _ in range(threads)]
    for thread in made:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in made:
            thread.join(PATIENCE)


def taken(app: gothreads.App, kind: str, wanted: Callable[[Profile], bool], seconds: float = 0.3) -> Profile:
    """The first profile that has what is wanted: on a loaded machine, not every one has."""
    found: list[Profile] = []

    def take() -> bool:
        found.append(app.profile(kind, seconds=seconds))
        return wanted(found[-1])
    wait_until(take)
    return found[-1]


def has(function: str) -> Callable[[Profile], bool]:
    return lambda profile: function in {row.function for row in profile.functions()}


def profiler_of(app: gothreads.App) -> Profiler:
    assert isinstance(app, ThreadedApp)
    return app._profiler


def rates_of(app: gothreads.App) -> list[int]:
    """Those of allocations, blocking and locks."""
    module = profiler_of(app)._module
    return module.in_module(lambda caller: module.ask(caller, Question.RATES, -1, -1, -1)[1][:3])


def lines_of(app: gothreads.App) -> int:
    """How many places in the program samples have named so far."""
    return len(profiler_of(app)._module._lines)


def share(profile: Profile, function: str) -> float:
    return sum(row.total for row in profile.functions() if row.function == function) / (profile.total or 1)


def test_cpu_samples_of_a_program_that_imports_nothing_for_it(tmp_path: Path) -> None:
    with opened("calls") as app, running(lambda: app.exports.fib(30)):
        # Few samples may be of anything.
        profile = taken(app, "cpu", lambda found: has("main.fibonacci")(found) and share(found, "main.fib") > 0.5)
        profile.save(tmp_path / "cpu.pb.gz")
    line = next(line for sample in profile.samples for line in sample.stack if line.function == "main.fib")
    assert line.file.endswith("tests/modules/calls/main.go")
    source = Path(line.file).read_text().splitlines()
    assert "func fib(" in source[line.line - 1]
    assert line.start == line.line
    assert profile.types[-1] == ("cpu", "nanoseconds")
    assert "main.fibonacci" in go_tool("pprof", "-top", tmp_path / "cpu.pb.gz")


def test_an_app_whose_callers_are_all_blocked_is_profiled() -> None:
    with opened("calls", callers=2) as app, running(app.exports.hang, threads=2):
        def hanging(profile: Profile) -> int:
            return sum(sample.values[0] for sample in profile.samples if sample.stack[0].function == "main.hang")
        wait_until(lambda: hanging(app.profile("goroutine")) == 2)
        profile = app.profile("goroutine")
        states = {dict(sample.labels)["state"] for sample in profile.samples if sample.stack[0].function == "main.hang"}
        assert states == {"select (no cases)"}
        assert app.profile("cpu", seconds=0.05).kind == "cpu"
        assert app.profile("trace", seconds=0.05).data.startswith(b"go 1.")
        app.close()


def test_the_frames_of_a_stack_of_which_go_prints_only_the_ends() -> None:
    def frame(number: int) -> str:
        return f"main.deep({number:#x})\n\t/app/deep.go:{number} +0x1f\n"
    text = ("goroutine 7 [running]:\n" + "".join(map(frame, range(1, 51))) + "...101 frames elided...\n"
            + "".join(map(frame, range(152, 201))) + "main.main()\n\t/app/main.go:9 +0x3\ncreated by main.f\n\tx:1")
    (sample,) = goroutine_profile(parse_goroutines(text), "app").samples
    assert {line.function for line in sample.stack} == {"main.deep", "main.main"}
    assert [line.line for line in sample.stack] == [*range(1, 51), *range(152, 201), 9]


def test_locks_that_make_others_wait_and_where_they_wait() -> None:
    with opened("calls") as app, running(lambda: app.exports.contend(20)):
        mutex = taken(app, "mutex", lambda found: found.total > 0 and found.functions()[0].function == UNLOCK)
        taken(app, "block", lambda found: any(sample.stack[0].function == LOCK for sample in found.samples))
    # Beside these, there are the locks of Go's scheduler.
    unlocked = [sample.stack for sample in mutex.samples if sample.stack[0].function == UNLOCK]
    assert all("main.contend.func1" in {line.function for line in stack} for stack in unlocked)


def test_after_a_profile_nothing_is_sampled_any_more() -> None:
    with opened("calls") as app:
        for kind in ("mutex", "block", "heap"):
            app.profile(kind, seconds=0.01)
        assert rates_of(app) == [0, 0, 0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "goroutine"])
def test_after_answers_that_were_lost_the_next_profile_is_as_ever(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go does not answer in time, or Ctrl-C comes, at any of the questions of a profile, and at all after that. Go has
    got them all the same, or not.
    """
    with opened("calls") as app:
        module = profiler_of(app)._module
        in_module = module.in_module
        for first, lost, is_asked in itertools.product(range(7), [TimeoutError, KeyboardInterrupt], [True, False]):
            questions = itertools.count()

            def ask(look: Callable[[CallbackM], Any], questions: Iterator[int] = questions, first: int = first,
                    lost: type[BaseException] = lost, is_asked: bool = is_asked) -> Any:
                is_lost = next(questions) >= first
                answer = in_module(look) if is_asked or not is_lost else None
                if is_lost:
                    raise lost
                return answer
            with monkeypatch.context() as patched, contextlib.suppress(lost):
                patched.setattr(module, "in_module", ask)
                app.profile(kind, seconds=0.001)
            profile = app.profile(kind, seconds=0.001)
            assert profile.kind == kind
            assert kind != "trace" or profile.data.startswith(b"go 1.")
            assert rates_of(app) == [0, 0, 0]


def test_allocations_in_a_time_and_what_is_still_used() -> None:
    with opened("calls") as app, running(lambda: app.exports.churn(20_000)):
        heap = taken(app, "heap", lambda found: any(sample.values[1] for sample in found.samples))
        assert "what was allocated in this time" in heap.note
    names = {line.function for sample in heap.samples for line in sample.stack}
    assert "main.churn" in names
    assert all(not sample.stack[0].function.startswith("runtime.") or len(sample.stack) == 1
               for sample in heap.samples if "main.churn" in {line.function for line in sample.stack})


def test_the_heap_as_it_is_needs_samples_from_the_start() -> None:
    with opened("calls") as app, pytest.raises(gothreads.MisuseError, match='"GODEBUG": "memprofilerate=524288"'):
        app.profile("heap")
    with opened("calls", env={"GODEBUG": "memprofilerate=4096"}) as app:
        app.request("keep", b"x" * 5_000_000)
        heap = app.profile("heap")
        assert heap.total > 4_000_000
        assert heap.seconds == 0


def test_a_program_that_reads_heap_profiles_has_one_at_any_time() -> None:
    with opened("semantics") as app:
        assert app.profile("heap").types[-1] == ("inuse_space", "bytes")


@pytest.mark.long
def test_go_tool_trace_reads_a_trace(tmp_path: Path) -> None:
    with opened("calls") as app, running(lambda: app.exports.sleep(1)):
        app.profile("trace", seconds=0.3).save(tmp_path / "app.trace")
        app.profile("trace", seconds=0.05).save(tmp_path / "again.trace")
    for name in ("app.trace", "again.trace"):
        assert "StateTransition" in go_tool("trace", "-d=parsed", tmp_path / name)


def test_the_program_and_the_host_do_not_disturb_each_other() -> None:
    with opened("semantics") as app, running(lambda: app.request("recurse", b"2000")):
        app.request("begin cpu profile")
        with pytest.raises(gothreads.GothreadsError, match="the program takes a CPU profile itself"):
            app.profile("cpu", seconds=0.1)
        assert Profile.decode(app.request("end cpu profile")).kind == "cpu"
        stop = threading.Event()
        taking = threading.Thread(target=lambda: app.profile("cpu", seconds=PATIENCE, stop=stop))
        taking.start()
        wait_until(lambda: lines_of(app))  # it has begun: samples have come
        app.request("begin cpu profile")
        assert Profile.decode(app.request("end cpu profile")).samples == ()
        app.request("begin cpu profile")
        stop.set()
        taking.join(PATIENCE)
        assert Profile.decode(app.request("end cpu profile")).samples == ()
        assert app.profile("cpu", seconds=0.1).kind == "cpu"


def test_one_profile_of_a_kind_at_a_time_and_it_ends_when_it_is_told_to() -> None:
    stop = threading.Event()
    with opened("calls") as app:
        taking = threading.Thread(target=lambda: app.profile("block", seconds=PATIENCE, stop=stop))
        taking.start()
        wait_until(lambda: profiler_of(app)._taking["block"].locked())
        with pytest.raises(gothreads.MisuseError, match="a profile 'block' is being taken already"):
            app.profile("block", seconds=0.1)
        app.profile("mutex", seconds=0.01)
        stop.set()
        taking.join(PATIENCE)
        assert not taking.is_alive()
        app.profile("block", seconds=0.01)


def test_a_module_that_ends_has_a_profile_of_the_time_until_then() -> None:
    with opened("calls") as app, running(lambda: app.exports.fib(30)):
        done: list[Profile] = []
        taking = threading.Thread(target=lambda: done.append(app.profile("cpu", seconds=PATIENCE, rate=1000)))
        taking.start()
        wait_until(lambda: lines_of(app))
        app.close()
        taking.join(PATIENCE)
    assert has("main.fibonacci")(done[0])
    assert "the module ended meanwhile" in done[0].note


def test_a_module_that_has_ended_has_none() -> None:
    app = opened("calls")
    app.close()
    for kind in KINDS:
        with pytest.raises(gothreads.AppClosed):
            app.profile(kind, seconds=0.1)


@pytest.mark.parametrize(("kind", "options", "told"), [
    ("cpus", {}, "there is no profile 'cpus'; there are: cpu, block"),
    ("cpu", {"seconds": 0}, "seconds must be above 0"),
    ("cpu", {"seconds": -1}, "seconds must be a number from 0 to 3,600"),
    ("cpu", {"seconds": float("nan")}, "seconds must be a number"),
    ("cpu", {"seconds": True}, "seconds must be a number"),
    ("cpu", {"rate": 5000}, r"rate \(samples a second\) must be a whole number from 1 to 1,000"),
    ("trace", {"rate": 1}, "a profile 'trace' has no rate"),
])
def test_wrong_options_are_told(kind: str, options: dict[str, float], told: str) -> None:
    with opened("calls") as app, pytest.raises(gothreads.MisuseError, match=told):
        app.profile(kind, **options)  # type: ignore[arg-type]


def test_models_without_threads_have_only_their_goroutines() -> None:
    with opened("calls", model="single") as app:
        assert app.profile("goroutine").types[-1].name == "goroutine"
        with pytest.raises(gothreads.NotCallable, match="a profile 'cpu' needs the model threaded, and this is single"):
            app.profile("cpu")


def test_a_supervised_app_is_profiled() -> None:
    from tests.support.modules import built
    with gothreads.supervise(built("calls")) as app, running(lambda: app.exports.fib(25)):
        assert app.profile("cpu", seconds=0.1).kind == "cpu"
