"""app.signal and guest.Events: events from any Python thread to a running module (tests/modules/talk)."""

from __future__ import annotations

import array
import asyncio
import contextlib
import io
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.bridge import messages
from gothreads.runtime.payloads import Payload
from tests.support.modules import MODELS, built, opened
from tests.support.waiting import PATIENCE, raises_within, together, under_load, wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.filterwarnings("error")]


def numbered(sender: int, n: int) -> bytes:
    return struct.pack("<II", sender, n)


def seen(app: gothreads.App) -> tuple[int, int, bool]:
    """The count and sum of the received numbers, and whether each sender's arrived in order."""
    received, total, ordered = app.request("seen").decode().split()
    return int(received), int(total), ordered == "true"


def kept(app: gothreads.App) -> list[bytes]:
    reply = app.request("kept")
    return reply.split(b",") if reply else []


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "idle"])
def test_nothing_is_lost_and_each_senders_events_stay_in_order(model: str) -> None:
    each = 50_000 if model == "threaded" else 10_000
    with opened("talk", model, procs=2) as app:
        def send(sender: int) -> None:
            for n in range(1, each + 1):
                assert app.signal("number", numbered(sender, n))
        together(*(lambda sender=sender: send(sender) for sender in range(4)))
        app.wait_idle(PATIENCE)
        assert seen(app) == (4 * each, 4 * each * (each + 1) // 2, True)


@pytest.mark.parametrize("model", MODELS)
def test_events_that_come_before_go_asks_for_them_are_there_when_it_does(model: str) -> None:
    with opened("talk", model, instances=1 if model == "pool" else None) as app:
        for n in range(100):
            assert app.signal("early", str(n))
        assert "early" not in app.events
        app.request("receive", "early")
        app.wait_idle(PATIENCE)
        assert kept(app) == [str(n).encode() for n in range(100)]
        assert app.events == ["early", "number", "text"]


@pytest.mark.parametrize("payload",
                         [b"bytes", "näher", bytearray(b"bytearray"), array.array("H", [1, 2]),
                          memoryview(b"a view")[::2], b"", b"\0\xff", bytes(5_000_000), bytes(70 << 20)])
def test_what_a_payload_may_be_arrives_whole(payload: Payload) -> None:
    with opened("talk") as app:
        app.signal("text", payload)
        app.wait_idle(PATIENCE)
        assert app.request("kept") == (payload.encode() if isinstance(payload, str) else bytes(payload))


@pytest.mark.parametrize(("name", "payload", "said"),
                         [("", b"", "an event's name must be a str, and not empty"),
                          (5, b"", "an event's name must be a str"),
                                                       ("x", 5, "a payload must be bytes, another buffer, or str, not int"),
                                                       ("x", None, "a payload must be bytes, another buffer")])
def test_what_is_no_event_is_refused(name: Any, payload: Any, said: str) -> None:
    with opened("talk") as app:
        with pytest.raises(gothreads.MisuseError, match=said):
            app.signal(name, payload)
        with pytest.raises(gothreads.MisuseError, match='full must be "wait", "drop" or "raise", not \'perhaps\''):
            app.signal("x", full="perhaps")  # type: ignore[arg-type]


def test_when_the_queue_is_full_an_event_waits_or_is_dropped_or_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with opened("talk", event_queue=3) as app:
        for n in range(3):
            assert app.signal("slow", str(n), full="raise")
        unread = "the module has not asked for events of that name. It has asked for: number, text"
        wait_until(lambda: app.events == ["number", "text"])
        with pytest.raises(gothreads.QueueFull, match=f"no room for an event 'slow': {unread}$"):
            app.signal("slow", full="raise")
        for _ in range(2):
            with pytest.raises(gothreads.QueueFull):
                app.signal("slow", timeout=0.01)
        assert caplog.messages == [f"{app.loaded.name}: the queue of the events 'slow' is full: {unread}"]
        caplog.clear()
        for _ in range(3):
            app.signal("numbr")
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(app.signal_async("numbr"), 0.01))
        assert caplog.messages == [f"{app.loaded.name}: the queue of the events 'numbr' is full: the module has not asked "
                                   "for events of that name. Did you mean 'number'?"]
        app._messages.events("slow").was_read = True
        with pytest.raises(gothreads.QueueFull,
                           match="no room for an event 'slow': the module does not take them so fast. Raise "
                                 "`event_queue`"):
            app.signal("slow", full="raise")
        assert app.signal("slow", full="drop") is False
        with raises_within(gothreads.QueueFull, 2):
            begin = time.monotonic()
            app.signal("slow", timeout=0.05)
        assert time.monotonic() - begin >= 0.05
        with raises_within(gothreads.QueueFull, 1):
            app.signal("slow", timeout=0)
        assert app.signal("other", full="raise")  # each name has its own queue
        waiting = threading.Thread(target=app.signal, args=("slow", "3"))
        waiting.start()
        wait_until(lambda: app._messages.events("slow")._waiting == 1)
        app.request("receive", "slow")
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        app.wait_idle(PATIENCE)
        assert kept(app) == [b"0", b"1", b"2", b"3"]


def test_a_queue_is_bounded_in_bytes_too_but_takes_any_one_event() -> None:
    with opened("talk") as app:
        assert app.signal("slow", bytes(100 << 20), full="raise")
        with pytest.raises(gothreads.QueueFull):
            app.signal("slow", b"", full="raise")
        assert app.signal("others", bytes(40 << 20), full="raise")
        assert not app.signal("others", bytes(40 << 20), full="drop")
        assert app.signal("others", bytes(20 << 20), full="raise")


def test_an_event_that_go_could_not_hold_is_refused() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 32
    with opened("talk") as app, pytest.raises(gothreads.ArgumentError,
                                              match="4,294,967,296 bytes are too many for one event"):
        app._queue("x", Huge())


def test_senders_that_wait_get_the_cause_when_the_app_ends() -> None:
    app = opened("talk", event_queue=1, stderr=io.BytesIO())
    app.signal("slow")
    errors: list[BaseException] = []

    def send() -> None:
        try:
            app.signal("slow")
        except BaseException as error:
            errors.append(error)

    async def send_async() -> None:
        try:
            await app.signal_async("slow")
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=send)
               for _ in range(20)] + [threading.Thread(target=asyncio.run, args=(send_async(),)) for _ in range(5)]
    for thread in threads:
        thread.start()
    queue = app._messages.events("slow")
    wait_until(lambda: queue._waiting == 20 and len(queue._waiters) == 5)
    begin = time.monotonic()
    app.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert time.monotonic() - begin < under_load(0.5)
    assert [type(error) for error in errors] == [gothreads.AppClosed] * 25


@pytest.mark.parametrize(("how", "kind"),
                         [("panic", gothreads.GuestPanic), ("exit", gothreads.GuestExit),
                          ("trap", gothreads.GuestTrap)])
def test_a_signal_after_the_end_raises_its_cause(how: str, kind: type[gothreads.GuestError]) -> None:
    with opened("talk", stderr=io.BytesIO()) as app:
        with pytest.raises(kind):
            app.request("die", how)
        with pytest.raises(kind):
            app.signal("text")
        with pytest.raises(kind):
            asyncio.run(app.signal_async("text"))
    with pytest.raises(kind):
        app.signal("text")


@pytest.mark.parametrize("model", ["threaded", "idle"])
def test_asyncio_goes_on_while_there_is_no_room(model: str) -> None:
    async def main() -> None:
        with opened("talk", model, event_queue=2) as app:
            sending = asyncio.create_task(send(app))
            for _ in range(100):
                await asyncio.sleep(0.0001)
            assert not sending.done()
            app.request("receive", "slow")
            await asyncio.wait_for(sending, 10)
            app.wait_idle(PATIENCE)
            assert kept(app) == [str(n).encode() for n in range(100)]

    async def send(app: gothreads.App) -> None:
        for n in range(100):
            await app.signal_async("slow", str(n))
    asyncio.run(main())


def test_an_event_whose_sender_was_cancelled_is_not_sent() -> None:
    async def main(app: gothreads.App) -> None:
        await app.signal_async("slow", "first")
        waiting = [asyncio.create_task(app.signal_async("slow", f"never {n}")) for n in range(20)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(app.signal_async("slow", "never"), 0.05)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    with opened("talk", event_queue=1) as app:
        asyncio.run(main(app))
        app.request("receive", "slow")
        app.signal("slow", "last")
        app.wait_idle(PATIENCE)
        assert kept(app) == [b"first", b"last"]


def test_two_hundred_names_each_in_order() -> None:
    with opened("talk") as app:
        names = [f"name {n}" for n in range(200)]
        for name in names:
            app.request("receive", name)

        def send(part: int) -> None:
            for n in range(5):
                for name in names[part::4]:
                    app.signal(name, f"{name} {n}")
        together(*(lambda part=part: send(part) for part in range(4)))
        app.wait_idle(PATIENCE)
        received = kept(app)
        for name in names:
            assert [text for text in received
                    if text.startswith(f"{name} ".encode())] == [f"{name} {n}".encode() for n in range(5)]


@pytest.mark.parametrize("model", ["threaded", "single"])
def test_too_many_names_are_an_error_on_either_side(model: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))  # each name takes a descriptor
    try:
        with opened("talk", model) as app:
            for n in range(22):
                app.signal(f"host {n}")
            app.request("receive", "host 0")
            app.wait_idle(PATIENCE)
            had, panic = app.request("names", "2000").decode().split(" ", 1)
            assert int(had) == 1024 - 22 - 2
            assert panic.startswith('guest.Events("name 1000"): ')
            with pytest.raises(gothreads.QueueFull, match="too many names of events"):
                app.signal("one more")
            assert app.signal("text", "fine")
            app.wait_idle(PATIENCE)
            assert b"fine" in kept(app)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def alarms(handler: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `handler` periodically from a signal handler, at any point in the main thread's code."""
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: handler())
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "idle"])
def test_a_signal_handler_may_signal_in_the_middle_of_anything(model: str) -> None:
    """The interrupted thread itself signals and makes calls (and in stock Go, its calls read the queue)."""
    sent = [0, 0]
    with opened("talk", model, procs=2, event_queue=100_000) as app:
        def number(sender: int) -> None:
            sent[sender] += 1
            app.signal("number", numbered(sender, sent[sender]), full="raise")

        handling = threading.Lock()

        def handler() -> None:
            if sent[1] < 2_000 and handling.acquire(blocking=False):  # a handler may interrupt itself
                number(1)
                app.signal(f"other {sent[1] % 50}", full="drop")
                handling.release()
        for n in range(0, 50, 2):
            app.request("receive", f"other {n}")
        with alarms(handler, 0.0005):
            while sent[1] < 2_000:
                for _ in range(20):
                    number(0)
                app.exports.ticked()
                app.wait_idle(PATIENCE)
        app.wait_idle(PATIENCE)
        assert seen(app) == (sum(sent), sum(n * (n + 1) // 2 for n in sent), True)


def test_a_signal_handler_may_end_the_app_in_the_middle_of_a_signal() -> None:
    for _ in range(8):
        with opened("talk") as app:
            first = [app.close]
            with alarms(lambda: first.pop()() if first else None, 0.003), contextlib.suppress(gothreads.AppClosed):  # noqa: B023
                while True:
                    app.signal("number", numbered(0, 1))
            begin = time.monotonic()
        assert time.monotonic() - begin < under_load(0.5)


@pytest.mark.parametrize("call", ["app.signal('slow')", "up(), app.wait_idle()", "asyncio.run(app.signal_async('slow'))"])
def test_ctrl_c_interrupts_what_waits_on_the_main_thread(call: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import asyncio, gothreads, logging, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def up(*_):
            print("up", flush=True)
        class Waits(logging.Handler):
            emit = up
        # That nobody reads is told before the wait, with an import (difflib) in which Ctrl-C must not come: an exception
        # that leaves eval(), as namedtuple uses it, lets Python end by the signal, although it is caught (3.11).
        logging.getLogger("gothreads").addHandler(Waits())
        with gothreads.open({str(built("talk"))!r}, event_queue=1) as app:
            app.signal("slow")
            app.exports.spin()
            try:
                {call}
            except KeyboardInterrupt:
                print("interrupted", app.state, app.signal("text", "fine"), flush=True)
    """)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("interrupted State.RUNNING True\n", 0), errors
    assert time.monotonic() - begin < under_load(2.0)


def test_a_child_of_fork_is_told_that_the_app_is_the_parents() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
        import asyncio, gothreads, os, sys
        app = gothreads.open({str(built("talk"))!r}, handlers={{"now": lambda p: p}})
        app.signal("text", "x")
        assert app.request("call", "now x") == b"x"
        if os.fork() == 0:
            told = 0
            for call in (lambda: app.signal("text"), lambda: asyncio.run(app.signal_async("text")), lambda: app.wait_idle(1), lambda: app.request("seen")):
                try:
                    call()
                except gothreads.AppForked:
                    told += 1
            app.close()
            os._exit(told)
        print(os.waitstatus_to_exitcode(os.wait()[1]), app.request("call", "now y"))
    """),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "4 b'y'\n", done.stderr


def test_instances_of_a_pool_share_events_and_each_gets_whole_ones() -> None:
    got: list[bytes] = []
    meeting = threading.Barrier(3)

    def meet(_payload: bytes) -> None:
        meeting.wait(PATIENCE)
    with opened("talk", "pool", instances=3, event_queue=50,
                handlers={"got": got.append, "meet": meet, "pause": lambda _p: None}) as app:
        together(*(lambda: app.request("forward", "large") for _ in range(3)))
        sent: list[set[bytes]] = [set() for _ in range(4)]
        over = threading.Event()

        def send(sender: int) -> None:
            choose = random.Random(sender)
            for n in range(300):
                event = struct.pack("<II", sender, n) + choose.randbytes(choose.choice((0, 10, 30_000, 90_000)))
                sent[sender].add(event)
                app.signal("large", event)

        def pump() -> None:
            while not over.is_set():
                app.request("call", "pause")  # while this call waits, the instance's other goroutines run
        pumps = [threading.Thread(target=pump) for _ in range(3)]
        for thread in pumps:
            thread.start()
        together(*(lambda sender=sender: send(sender) for sender in range(4)))
        over.set()
        for thread in pumps:
            thread.join()
        while len(got) < 1200:  # the rest is buffered in an instance that has not been called again
            app.wait_idle(PATIENCE)
        assert len(got) == 1200
        assert {zlib.crc32(event) for event in got} == {zlib.crc32(event) for part in sent for event in part}


# Calls of a hostile module (tests/modules/hostile).

INVALID, FAULT, TOO_BIG, TOO_LONG, NO_ENTRY, AGAIN, BAD, SPIPE, NOT_SOCKET, MANY = 28, 21, 1, 37, 44, 6, 8, 70, 57, 33


def attempt(what: str, *, limits: gothreads.Limits | None = None, **options: Any) -> list[str]:
    said = io.BytesIO()
    with gothreads.open(built("hostile"), args=[what], stdout=said, procs=2, limits=limits, **options) as app:
        assert app.wait(PATIENCE) == 0
    return said.getvalue().decode().splitlines()


def test_wrong_addresses_and_lengths_are_errors() -> None:
    assert attempt("call", handlers={"handler": len}) == [
        f"{FAULT} {INVALID}",
        "0",
        f"{FAULT} {TOO_LONG} {NO_ENTRY}",
        f"{FAULT} {TOO_BIG} 0",
        "0 0 0 0",
        f"{FAULT} {TOO_LONG} {NO_ENTRY} {FAULT}",
        f"{FAULT} {TOO_LONG} {FAULT} {FAULT}",
        f"{NO_ENTRY} 0 0",
    ]


def test_a_queue_is_read_in_any_pieces_and_is_nothing_else_but_read() -> None:
    read, write = os.pipe()
    with os.fdopen(read) as said, os.fdopen(write, "wb", buffering=0) as out, \
            gothreads.open(built("hostile"), args=["read"], stdout=out, procs=2) as app:
        assert said.readline() == "ready\n"
        event = b"abcdefghijklmnopqrstuvwxyz"
        app.signal("queue", event)
        assert said.readline().strip().encode() == b'"\\x1a\\x00\\x00\\x00' + event + b'"'
        assert said.readline() == "0 0 0\n"
        assert said.readline() == f"{SPIPE} {BAD}\n"
        last = said.readline().split()
        assert last[1:] == [str(NOT_SOCKET), "0", str(AGAIN)]
        assert said.readline() == f"{FAULT}\n"
        assert said.readline() == f"0 {BAD}\n"
        assert said.readline() == f"0 0 {BAD}\n"
        assert said.readline() == "done\n"
        app.signal("queue", b"a third")
        assert said.readline() == '0 "a third"\n'
        assert app.wait(PATIENCE) == 0


def test_a_module_that_asks_for_all_names_leaves_the_host_its_descriptors() -> None:
    program = """
        import resource, sys, gothreads
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
        with gothreads.open(sys.argv[1], args=["names"]) as app:
            code = app.wait(30)
            [open("/dev/null") for _ in range(300)]
            sys.exit(code)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(built("hostile"))], capture_output=True,
                          text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, f"1024 {MANY}\n"), done.stderr


@pytest.mark.parametrize("what", ["cancel", "unread"])
def test_what_calls_keep_of_the_hosts_memory_is_bounded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_MOST_BYTES", 128 << 20)
    release = threading.Event()

    def handler(payload: bytes) -> bytes:
        if what == "cancel":
            release.wait(PATIENCE)
        return payload
    said = io.BytesIO()
    with gothreads.open(built("hostile"), args=[what], stdout=said, procs=2, handlers={"handler": handler}) as app:
        assert app.wait(PATIENCE) == 0
        release.set()
    assert said.getvalue().decode().splitlines() == ["0", f"true {AGAIN}"]


def test_a_module_that_does_not_look_at_its_poller_holds_up_no_sender() -> None:
    read, write = os.pipe()
    with os.fdopen(read) as said, os.fdopen(write, "wb", buffering=0) as out, \
            gothreads.open(built("hostile"), args=["ring"], stdout=out, procs=2) as app:
        while said.readline() != "ready\n":
            pass
        begin = time.monotonic()
        for n in range(3):
            assert app.signal(f"queue {n}", "x", full="drop")
        assert time.monotonic() - begin < under_load(0.5)
        app.close()
        assert time.monotonic() - begin < under_load(1.0)


@pytest.mark.long
def test_a_module_without_the_guest_package_is_sent_no_events_and_given_no_handlers(tmp_path: Path) -> None:
    program = tmp_path / "plain.go"
    program.write_text("package main\n\n//go:wasmexport one\nfunc one() int32 { return 1 }\n\nfunc main() { select {} "
                       "}\n")
    with gothreads.open(program) as app:
        with pytest.raises(gothreads.NotCallable,
                           match="the module does not import gothreads/guest, so it receives no events"):
            app.signal("order")
        assert app.exports.one() == 1
    with pytest.raises(gothreads.MisuseError,
                       match=r"handlers are given \(price\), but the module does not import gothreads/guest, so it "
                             r"calls none"):
        gothreads.open(program, handlers={"price": bytes})


def test_statistics_count_the_events_that_wait() -> None:
    with gothreads.open(built("talk", model="single")) as app:  # which receives events during calls only
        app.wait_idle(10)
        app.signal("text", b"x")
        app.signal("text", b"x")
        app.signal("nobody asks", b"x")
        assert app.statistics().queued_events == {"number": 0, "text": 2}
