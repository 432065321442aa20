"""Deaths of the module, in every way, with fifty callers in it: what each of them gets, how soon; and nothing is left.

The faults are those of tests/support/faults.py; `--faults-table docs/faults.md` writes the measurements to that file.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psutil
import pytest

import gothreads
from gothreads.wasi.streams import TAIL
from tests.support.faults import BOUND, DOCUMENT, FAULTS, STARTING, WASI_THREADS, Fault, rows, titles
from tests.support.modules import MODELS, built, native, opened
from tests.support.waiting import PATIENCE, few_threads, gothreads_threads, under_load, wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.filterwarnings("error")]

Note = Callable[[str, Fault, int, float], None]

LINES = b"".join(b"line %d\n" % n for n in range(100))

#: What is in the module when it dies: the number of waiting calls by export, and one computing call of each export in
#: COMPUTING: one without function calls, one that allocates.
IN_IT = {"receive": 8, "send": 4, "choose": 3, "lock": 4, "condition": 3, "gather": 3, "sleep": 3}
COMPUTING = ["spin", "churn"]
REQUESTS = [("hang", ""), ("ask", "coroutine"), ("ask", "function")]
WAITING = 15
#: All of those, one call in a Python function, and the one that causes the fault.
CALLERS = sum(IN_IT.values()) + len(REQUESTS) + len(COMPUTING) + 2
assert CALLERS + WAITING == 50


class Stderr(io.BytesIO):
    """Notes the time of the fault, when the module prints its last words or Go its reason, and of the last write."""

    moment = last = 0.0

    def write(self, data: Any, /) -> int:
        if bytes(data).startswith((b"last words", b"panic: ", b"fatal error: ")):
            self.moment = time.monotonic()
        self.last = time.monotonic()
        return super().write(data)


class Callers:
    """Threads that call, and what they get. Half of them submit the call, and wait for a future."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.errors: list[Any] = []
        self.results: list[object] = []
        self.told: list[float] = []

    def call(self, call: Callable[[], object]) -> None:
        def run() -> None:
            try:
                result = call()
            except BaseException as error:
                self.told.append(time.monotonic())
                self.errors.append(error)
            else:
                self.results.append(result)
        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def export(self, app: gothreads.App, name: str, *args: Any) -> None:
        if len(self.threads) % 2:
            self.call(lambda: app.exports[name](*args))
        else:
            self.call(lambda: app.submit(name, *args).result())

    def request(self, app: gothreads.App, handler: str, payload: str) -> None:
        self.call(lambda: app.request(handler, payload))

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive()
                       for thread in self.threads), f"{len(self.errors)} of {len(self.threads)} callers were told"


class Host:
    """The module's host functions and handlers. Setting `gate` releases those that wait in Python."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.raised = 0.0
        self.in_block = 0
        self.functions = {"env": {"block": self.block, "raises": self.raises, "close": lambda: None}}
        self.handlers: dict[str, Any] = {"coroutine": self.coroutine,
                                         "function": lambda payload: self.gate.wait(PATIENCE) and b""}

    def block(self) -> None:
        self.in_block += 1
        assert self.gate.wait(PATIENCE)

    def raises(self) -> None:
        self.raised = time.monotonic()
        raise LookupError("no such thing")

    async def coroutine(self, payload: bytes) -> bytes:
        await asyncio.sleep(3600)
        return b""


@pytest.fixture
def host() -> Iterator[Host]:
    """A Host whose functions are released at the end of the test, even if it fails."""
    made = Host()
    yield made
    made.gate.set()


@pytest.fixture
def untouched(nothing_left: None) -> Iterator[None]:
    """Check that another app in the process, with a call in it, is not affected."""
    with gothreads.open(built("calls")) as app:
        blocked = app.submit("hang")
        assert app.exports.count() == 1
        yield
        assert app.exports.count() == 2
        assert app.exports.ask(4) == 8
        assert not blocked.done()


def parameters(model: str) -> list[Any]:
    """The faults of a model. Exits and panics in other places than an export, and those that take long, are `long`."""
    def is_long(fault: Fault) -> bool:
        elsewhere = " in " in fault.title and not fault.title.endswith("export")
        return (fault.title.startswith(("os.Exit", "panic")) and elsewhere) or fault.title == "endless recursion"
    return [pytest.param(fault, id=str(fault), marks=[pytest.mark.long] if is_long(fault) else [])
            for fault in FAULTS[model]]


def begin(app: gothreads.App, callers: Callers, fault: Fault) -> None:
    """Make the call in which the fault will happen on the event "go"; an ordinary call if an event causes the fault."""
    if fault.where == "handler":
        callers.request(app, "fault", fault.kind)
    elif fault.where == "event":
        callers.export(app, "receive")
    else:
        callers.export(app, fault.where, fault.kind)


def let_go(app: gothreads.App, fault: Fault) -> None:
    if fault.where == "event":
        app.signal("fault", fault.kind)
    else:
        app.signal("go")


def check(fault: Fault, error: Any) -> None:
    """Check that the error is the one of that fault."""
    assert type(error) is fault.error, error
    assert error.code == fault.code
    assert fault.said in error.message
    if fault.error is gothreads.HostFunctionError:
        assert isinstance(error.__cause__, LookupError)
    if fault.error is gothreads.GuestTrap:
        function = {"stack": "main.deep", "out of bounds": "main.outOfBounds"}.get(fault.kind, "main." + fault.kind)
        assert any(frame.function == function for frame in error.frames), error.frames


def seconds(fault: Fault, callers: Callers, host: Host, stderr: Stderr) -> float:
    """Return the seconds from the fault until the last caller got its error."""
    moment = host.raised if fault.kind == "host" else min(callers.told) if fault.kind == "stack" else stderr.moment
    assert moment
    return max(callers.told) - moment


def ended(app: gothreads.App, fault: Fault, stdout: io.BytesIO, stderr: io.BytesIO) -> None:
    """Check what can be seen of the end afterwards."""
    wait_until(lambda: app.state is fault.state)
    assert app.exit == fault.code
    check(fault, app.error)
    late = time.monotonic()
    for call in (lambda: app.exports.plus(1, 1), lambda: app.submit("plus", 1, 1).result(),
                 lambda: app.request("echo"), lambda: app.signal("go")):
        with pytest.raises(fault.error) as caught:
            call()
        check(fault, caught.value)
    assert time.monotonic() - late < under_load(BOUND)
    assert stdout.getvalue() == LINES
    assert stderr.getvalue().startswith(b"last words\n")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("fault", parameters("threaded"))
def test_every_caller_gets_the_first_cause_at_once(fault: Fault, host: Host, measured: Note) -> None:
    stdout, stderr, callers = io.BytesIO(), Stderr(), Callers()
    with opened("faults", stdout=stdout, stderr=stderr, host=host.functions, handlers=host.handlers, callers=CALLERS,
                procs=2, **fault.options) as app:
        for handler, payload in REQUESTS:
            callers.request(app, handler, payload)
        callers.call(lambda: app.submit("block").result())
        for name, count in IN_IT.items():
            for _ in range(count):
                callers.export(app, name)
        wait_until(lambda: app.exports.there() == len(callers.threads))
        begin(app, callers, fault)
        for name in COMPUTING:  # last, as they slow down all others
            callers.export(app, name)
        wait_until(lambda: app.statistics().callers.in_use == CALLERS)  # type: ignore[union-attr]
        for _ in range(WAITING):
            callers.call(lambda: app.exports.plus(1, 1))
        wait_until(lambda: app.statistics().callers.waiting == WAITING)  # type: ignore[union-attr]
        let_go(app, fault)
        callers.join()
        took = seconds(fault, callers, host, stderr)
        measured("threaded", fault, len(callers.errors), took)
        assert len(callers.errors) == 50
        for error in callers.errors:
            check(fault, error)
        # When its runtime gives up, Go first prints every goroutine's stack, in thousands of writes.
        assert (max(callers.told) - stderr.last if fault.kind in ("memory", "threads", "goexit")
                else took) < under_load(BOUND)
        host.gate.set()
        ended(app, fault, stdout, stderr)
    assert app.statistics().threads.running == 0  # type: ignore[union-attr]
    with opened("faults", host=host.functions) as again:
        assert again.exports.plus(2, 2) == 4


@pytest.mark.long
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("model", "fault"),
                         [pytest.param(model, fault, id=f"{model}-{fault}") for model in ("single", "idle")
                          for fault in FAULTS[model]])
def test_on_one_thread_those_that_wait_for_their_turn_get_it_too(model: str, fault: Fault, host: Host,
                                                                 measured: Note) -> None:
    stdout, stderr, callers = io.BytesIO(), Stderr(), Callers()
    with opened("faults", model, stdout=stdout, stderr=stderr, host=host.functions, **fault.options) as app:
        begin(app, callers, fault)
        call_lock = app._call_lock  # type: ignore[attr-defined]
        wait_until(lambda: call_lock._owner)
        for _ in range(49):
            callers.export(app, "plus", 1, 1)
        wait_until(lambda: call_lock.taken >= 50)  # the thread of the model idle may wait for its first turn, too
        let_go(app, fault)
        callers.join()
        took = seconds(fault, callers, host, stderr)
        measured(model, fault, len(callers.errors), took)
        assert len(callers.errors) == 50
        for error in callers.errors:
            check(fault, error)
        assert took < under_load(BOUND)
        ended(app, fault, stdout, stderr)
    with opened("faults", model, host=host.functions) as again:
        assert again.exports.plus(2, 2) == 4


@pytest.mark.usefixtures("untouched")
def test_an_idle_module_that_dies_between_calls_tells_the_next(host: Host) -> None:
    for fault in FAULTS["idle"][0], FAULTS["idle"][3]:
        stdout, stderr = io.BytesIO(), io.BytesIO()
        with opened("faults", "idle", stdout=stdout, stderr=stderr, host=host.functions) as app:
            app.exports.fault_later(fault.kind, 30)
            wait_until(lambda app=app: app.error is not None)  # type: ignore[misc]
            ended(app, fault, stdout, stderr)


@pytest.mark.long
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("fault", parameters("pool"))
def test_in_a_pool_only_its_own_call_is_lost(fault: Fault, host: Host, measured: Note) -> None:
    stdout, stderr, own, others = io.BytesIO(), Stderr(), Callers(), Callers()
    with opened("faults", "pool", stdout=stdout, stderr=stderr, host=host.functions, instances=4,
                **fault.options) as app:
        for _ in range(3):  # in other instances
            others.call(lambda: app.exports.block())
        wait_until(lambda: app.statistics().pool.in_use == 3)  # type: ignore[union-attr]
        if fault.where == "handler":
            own.request(app, "fault now", fault.kind)
        else:
            own.export(app, "fault_now", fault.kind)
        for n in range(46):  # these wait for an instance, or come a little later
            others.export(app, "plus", n, 1)
        own.join()
        took = seconds(fault, own, host, stderr)
        measured("pool", fault, 50, took)
        check(fault, own.errors[0])
        assert took < under_load(BOUND)
        host.gate.set()
        others.join()
        assert others.errors == []
        assert sorted(n for n in others.results if isinstance(n, int)) == list(range(1, 47))
        statistics = app.statistics().pool
        assert statistics is not None
        assert (statistics.replaced, statistics.total) == (1, 4)
        assert app.state is gothreads.State.RUNNING
        assert app.error is None
    assert stdout.getvalue() == LINES


@pytest.mark.parametrize(("model", "fault"),
                         [pytest.param(model, fault, id=f"{model}-{fault}") for model, faults in STARTING.items()
                          for fault in faults])
def test_a_module_that_dies_while_it_starts_is_an_error_of_open(model: str, fault: Fault, host: Host,
                                                                measured: Note) -> None:
    stdout, stderr, callers = io.BytesIO(), Stderr(), Callers()
    instances = {"instances": 2} if model == "pool" else {}
    callers.call(lambda: opened("faults", model, stdout=stdout, stderr=stderr, host=host.functions,
                                env={fault.where.upper(): fault.kind}, **instances))
    callers.join()
    took = seconds(fault, callers, host, stderr)
    measured("open", fault, 1, took)
    check(fault, callers.errors[0])
    assert took < under_load(BOUND)
    assert stdout.getvalue() == LINES


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("fault", [pytest.param(fault, id=str(fault)) for fault in WASI_THREADS])
def test_a_fault_in_a_thread_of_wasi_threads_ends_all(fault: Fault, measured: Note) -> None:
    callers = Callers()
    with gothreads.open(native("threads.c"), stdin=b"") as app:
        for export in ("start_parked", "start_parked", "start_parked"):
            assert app.exports[export](len(callers.threads)) > 0
        assert app.exports.start_spinner() > 0
        assert app.exports.start_sleeper() > 0
        app.exports.start_ender(int(fault.kind))
        wait_until(lambda: app.exports.there() == 6)
        trigger, memory, call_lock = app.exports.trigger(), app.memory, app._call_lock  # type: ignore[attr-defined]
        assert isinstance(memory, gothreads.SharedMemory)
        callers.export(app, "park", 0)
        wait_until(lambda: call_lock._owner)
        for _ in range(49):
            callers.export(app, "plus", 1, 1)
        wait_until(lambda: call_lock.taken == 50)
        memory.store_u32(trigger, 1)
        moment = time.monotonic()
        memory.notify(trigger)
        callers.join()
        took = max(callers.told) - moment
        measured("wasi-threads", fault, len(callers.errors), took)
        assert len(callers.errors) == 50
        for error in [*callers.errors, app.error]:
            assert type(error) is fault.error
            assert fault.said in error.message
        assert took < under_load(BOUND)
        wait_until(lambda: app.state is fault.state)
        assert app.exit == fault.code
        assert app.statistics().threads.running == 0  # type: ignore[union-attr]


def test_the_table_has_the_faults_that_are_tested() -> None:
    assert titles(DOCUMENT.read_text()) == [(section, str(fault)) for section, fault in rows()]


# What coincides with a fault.

def test_of_two_faults_at_once_all_get_the_same_one(host: Host) -> None:
    pairs = [("panic", "exit"), ("unreachable", "panic"), ("exit", "host"), ("host", "unreachable"), ("panic", "panic")]
    for one, other in pairs * 4:
        callers = Callers()
        with opened("faults", stdout=io.BytesIO(), stderr=io.BytesIO(), host=host.functions) as app:
            callers.export(app, "fault_twice", one, other)
            for _ in range(10):
                callers.export(app, "receive")
            wait_until(lambda app=app: app.statistics().callers.in_use == 11)  # type: ignore[misc]
            app.signal("go")
            callers.join()
            assert len({(type(error), str(error)) for error in [*callers.errors, app.error]}) == 1
            assert len(callers.errors) == 11


@pytest.mark.long
def test_a_panic_is_told_from_a_log_that_looks_like_one(host: Host) -> None:
    def error(*texts: str, kind: str) -> gothreads.GuestError:
        with opened("faults", stdout=io.BytesIO(), stderr=io.BytesIO(), host=host.functions) as app:
            for text in texts:
                app.exports.says(text)
            with pytest.raises(gothreads.GuestError) as caught:
                app.exports.fault_now(kind)
            return caught.value
    for text in ("panic: recovered", "fatal error: not really", "panic: recovered\n\ngoroutines go on",
                 "panic: recovered\n\ngoroutine 7 [running]:\nruntime/debug.Stack()\n\t/go/debug/stack.go:26 +0x5"):
        assert "panic: on purpose" in error(text, kind="panic").message
        assert type(error(text, kind="exit 2")) is gothreads.GuestExit
        assert type(error(text, kind="unreachable")) is gothreads.GuestTrap


def test_a_panic_is_known_however_many_goroutines_are_printed_after_it(host: Host) -> None:
    stderr = io.BytesIO()
    with opened("faults", stdout=io.BytesIO(), stderr=stderr, host=host.functions, env={"GOTRACEBACK": "all"}) as app:
        app.exports.crowd(600)
        with pytest.raises(gothreads.GuestPanic, match=r"the module has ended: panic: on purpose, at main\.go:\d+\n") as caught:
            app.exports.fault_now("panic")
    assert len(stderr.getvalue()) > 1.2 * TAIL
    assert caught.value.stderr.startswith(("panic: on purpose\n\ngoroutine ",
                                           "last words\npanic: on purpose\n\ngoroutine "))
    assert stderr.getvalue().decode().endswith(caught.value.stderr[-1000:])


@pytest.mark.parametrize("model", [pytest.param(model, marks=[] if model == "threaded" else [pytest.mark.long])
                                   for model in MODELS])
def test_the_end_does_not_wait_for_the_stacks_of_all_goroutines(model: str, host: Host) -> None:
    def end(**options: Any) -> tuple[str, str]:
        stderr = io.BytesIO()
        with opened("faults", model, stdout=io.BytesIO(), stderr=stderr, host=host.functions,
                    limits=gothreads.Limits(memory=96 << 20), **options) as app:
            app.exports.crowd(1000)
            # Go says one for its heap and the other for its own structures: whichever meets the limit first.
            with pytest.raises(gothreads.GuestPanic, match="out of memory|cannot allocate memory") as caught:
                app.exports.fault_now("memory")
            assert caught.value.code == 2
        return stderr.getvalue().decode(), caught.value.stderr
    printed, kept = end()
    assert TAIL / 2 < len(printed) < 1.5 * TAIL
    assert printed.endswith("\n\n(more goroutines: to see all stacks, set GOTRACEBACK=all in the module's environment)\n")
    assert printed.endswith(kept[-1000:])
    printed, _ = end(env={"GOTRACEBACK": "all"})
    assert len(re.findall("^goroutine ", printed, re.MULTILINE)) > 900


def test_a_panic_without_a_stack_is_known_too(host: Host) -> None:
    with opened("faults", stdout=io.BytesIO(), stderr=io.BytesIO(), host=host.functions,
                env={"GOTRACEBACK": "none"}) as app, \
            pytest.raises(gothreads.GuestPanic, match="the module has ended: panic: before that"):
        app.exports.fault_now("again")


def test_main_may_die_before_open_has_returned_or_after(host: Host) -> None:
    def run(stdout: io.BytesIO) -> None:
        with opened("faults", stdout=stdout, stderr=io.BytesIO(), host=host.functions, env={"MAIN": "panic"}) as app:
            app.wait(PATIENCE)
            assert app.error is not None
            raise app.error
    for _ in range(20):
        stdout = io.BytesIO()
        with pytest.raises(gothreads.GuestPanic, match="panic: on purpose"):
            run(stdout)
        assert stdout.getvalue() == LINES


@pytest.mark.long
def test_statistics_goroutines_and_reads_meet_a_death(host: Host) -> None:
    for kind in ("panic", "exit", "unreachable", "host") * 3:
        with opened("faults", stdout=io.BytesIO(), stderr=io.BytesIO(), host=host.functions) as app:
            looked, callers = threading.Event(), Callers()
            looks: list[Callable[[], object]] = [app.statistics, app.goroutines, app.wait_idle, app.handlers,
                                                 partial(app.memory.read, 0, 1 << 20)]

            def again(look: Callable[[], object], app: gothreads.App = app, looked: threading.Event = looked) -> None:
                while app.error is None:
                    look()
                    looked.set()
                look()
            for look in looks:
                callers.call(partial(again, look))
            assert looked.wait(PATIENCE)
            with pytest.raises(gothreads.GuestError):
                app.exports.fault_now(kind)
            callers.join()
            assert all(type(error) is type(app.error) for error in callers.errors)
            assert app.statistics().go is None


def test_events_replies_and_connections_are_under_way_at_a_death(host: Host) -> None:
    for kind in ("panic", "exit", "unreachable", "host"):
        callers = Callers()
        with opened("faults", stdout=io.BytesIO(), stderr=io.BytesIO(), host=host.functions, handlers=host.handlers,
                    listen=["127.0.0.1:0"],
                    event_queue=10) as app:
            for _ in range(20):
                callers.request(app, "ask", "coroutine")
            wait_until(lambda app=app: app.exports.there() == 20)  # type: ignore[misc]
            for _ in range(10):  # the module does not read them
                app.signal("unknown", "x")
            for _ in range(3):  # so these wait for room
                callers.call(lambda app=app: app.signal("unknown", "x"))  # type: ignore[misc]
            address, port = app.listening[0].split(":")
            with socket.create_connection((address, int(port))) as peer:
                peer.settimeout(10)
                with pytest.raises(gothreads.GuestError):
                    app.exports.fault_now(kind)
                begun = time.monotonic()
                callers.join()
                with contextlib.suppress(ConnectionResetError):
                    assert peer.recv(1) == b""
                assert time.monotonic() - begun < under_load(BOUND)
            assert len(callers.errors) == 23
            assert all(type(error) is type(app.error) for error in callers.errors)


@pytest.mark.parametrize("model", MODELS)
def test_who_waits_for_a_thread_that_is_in_a_python_function_gets_the_cause_before_that_returns(
        model: str, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """The call itself through a future, the calls that wait for the lock or a caller, and close()."""
    callers = Callers()
    app = opened("faults", model, host=host.functions,
                 **({"callers": 1} if model == "threaded" else {"instances": 1} if model == "pool" else {}))
    callers.call(lambda: app.submit("block").result())
    wait_until(lambda: host.in_block)
    for _ in range(5):
        callers.export(app, "plus", 1, 1)
    begun = time.monotonic()
    app.close()
    assert time.monotonic() - begun < under_load(BOUND)
    callers.join()
    assert max(callers.told) - begun < under_load(BOUND)
    assert [type(error) for error in callers.errors] == [gothreads.AppClosed] * 6
    assert "not all threads have left yet" in caplog.text
    caplog.clear()
    assert app.state is gothreads.State.ENDING
    host.gate.set()
    wait_until(lambda: app.state is gothreads.State.CLOSED)
    app.close()


@pytest.mark.long
def test_deaths_leave_no_threads_memory_or_descriptors(host: Host) -> None:
    process = psutil.Process()
    kinds = ("panic", "exit", "unreachable", "host", "out of bounds")

    def run(number: int) -> None:
        with opened("faults", stdout=io.BytesIO(), stderr=io.BytesIO(), host=host.functions, handlers=host.handlers,
                    callers=8) as app:
            futures = [app.submit("receive"), app.submit("spin"), app.submit("sleep"),
                       app.submit_request("ask", "coroutine")]
            wait_until(lambda: app.exports.there() == 4)
            with pytest.raises(gothreads.GuestError):
                app.exports.fault_now(kinds[number % len(kinds)])
            assert all(isinstance(future.exception(PATIENCE), gothreads.GuestError) for future in futures)

    def settled() -> tuple[int, int, int]:
        gc.collect()
        return process.num_threads(), process.num_fds(), process.memory_info().rss
    for number in range(15):
        run(number)
    before = len(gothreads_threads())
    threads, descriptors, memory = settled()
    for number in range(50):
        run(number)
    wait_until(lambda: len(gothreads_threads()) <= before)
    few_threads(process, threads)
    _, descriptors_after, memory_after = settled()
    assert descriptors_after <= descriptors
    assert memory_after - memory < 3 << 20, f"{(memory_after - memory) / 50:.0f} bytes a death"
