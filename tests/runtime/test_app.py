"""One running app: calls from any thread, requests, futures, asyncio, statistics, streams."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import io
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import gothreads
from tests.support.modules import MODULES, built
from tests.support.tracebacks import own_frames
from tests.support.waiting import PATIENCE, together, wait_until


def test_an_app_that_is_left_open_is_a_warning_when_python_ends(calls: Path) -> None:
    program = """import gothreads, os, sys
open_ = [gothreads.open(sys.argv[1])]
open_[0] = gothreads.open(sys.argv[1])  # as a notebook's cell that is run again
gothreads.supervise(sys.argv[1])
with gothreads.open(sys.argv[1]) as closed, gothreads.supervise(sys.argv[1]):
    pass
if not os.fork():
    sys.exit()  # the apps are the parent's
os.wait()
"""
    done = subprocess.run([sys.executable, "-W", "always::ResourceWarning", "-c", program, calls], capture_output=True,
                          text=True, timeout=PATIENCE, check=True)
    said = re.findall(r"ResourceWarning: unclosed <gothreads\.(\w+) \S+ threaded running>: close it", done.stderr)
    assert sorted(said) == ["App", "App", "Supervised"], done.stderr
    assert done.stderr.count("ResourceWarning: unclosed <gothreads") == 3
    errors = ["-W", "error", "-c", program]
    assert subprocess.run([sys.executable, *errors, calls], timeout=PATIENCE, capture_output=True).returncode == 0


def test_exports_are_called_with_every_type(app: gothreads.App) -> None:
    exports = app.exports
    assert exports.add(2, 3) == 5
    assert exports.int32s(-(1 << 31)) == -(1 << 31)
    assert exports.uint32s((1 << 32) - 1) == (1 << 32) - 1
    assert exports.int64s(-(1 << 63)) == -(1 << 63)
    assert exports.uint64s((1 << 64) - 1) == (1 << 64) - 1
    assert exports.uintptrs((1 << 32) - 1) == (1 << 32) - 1
    assert exports.float32s(0.5) == 0.5
    assert exports.float64s(0.1) == 0.1
    assert exports.bools(True) is False
    assert exports.length("né") == 3
    assert exports.length(b"\0\xff") == 2
    assert exports.length("") == 0
    assert exports.length(numpy.zeros(3)) == 24
    assert exports.compare("a", 7, "b") == -7
    assert exports.hang.signature.result is None


def test_an_export_knows_its_signature_and_doc_comment(app: gothreads.App) -> None:
    assert str(inspect.signature(app.exports.add)) == "(a: int, b: int) -> int"
    assert "length is in bytes." in (app.exports.length.__doc__ or "")


def test_an_export_that_blocks_is_answered_by_main_from_fifty_threads_at_once(app: gothreads.App) -> None:
    def ask(n: int) -> list[int]:
        return [app.exports.ask(n + i) for i in range(20)]
    results = together(*(lambda n=n: ask(n) for n in range(50)))
    assert results == [[2 * (n + i) for i in range(20)] for n in range(50)]


def test_sums_are_exact_while_garbage_is_collected_all_the_time(app: gothreads.App) -> None:
    before = app.exports.collections()
    app.exports.collect(True)
    counts = together(*(lambda: [app.exports.count() for _ in range(625)] for _ in range(16)))
    app.exports.collect(False)
    assert sorted(n for part in counts for n in part) == list(range(1, 10_001))  # type: ignore[attr-defined]
    assert app.exports.collections() > before


@pytest.mark.long
@pytest.mark.parametrize("preemption", [True, False])
def test_functions_with_large_frames_grow_their_stacks_when_they_are_preempted(preemption: bool) -> None:
    """A poisoned stack guard must not let a large frame pass Go's check (in 32 bits the sum wrapped around)."""
    with gothreads.open(built("calls", preemption=preemption), procs=2) as app:
        assert app.exports.frames(40) == 80


def test_strings_that_go_keeps_stay_as_they_were(app: gothreads.App) -> None:
    words = [f"word {i}" * (i % 7 + 1) for i in range(200)]
    kept = [(app.exports.remember(word), word) for word in words]
    app.exports.churn(20_000)
    app.exports.heap()
    assert all(app.exports.same(number, word) for number, word in kept)


def test_requests_pass_bytes_in_and_out(app: gothreads.App) -> None:
    assert app.request("upper", "abc") == b"ABC"
    assert app.request("echo", b"") == b""
    large = bytes(range(256)) * 40_000
    assert app.request("echo", large) == large
    numbers: Any = numpy.arange(6.0)  # Any: before Python 3.12, its type has no __buffer__
    assert app.request("echo", numbers[::2]) == numbers[::2].tobytes() == app.submit_request("echo",
                                                                                             numbers[::2]).result()
    assert app.handlers() == ["echo", "fail", "keep", "kept", "panic", "reverse", "upper"]


class Column:
    """As those of pandas: not a buffer, but it has an array."""

    dtype: numpy.dtype[Any] = numpy.dtype("float64")

    def to_numpy(self) -> None: ...


class Texts(Column):
    dtype = numpy.dtype("O")


class Table(Column):
    columns = ()


@pytest.mark.parametrize(("handler", "payload", "said"), [
    (3, b"", "a handler's name must be a str, not 3"),
    ("\ud800", b"", r"a handler's name must be valid Unicode, not '\\ud800'"),
    ("echo", "\udfff", "a payload must be valid Unicode"),
    ("echo", numpy.array([None]), "a payload's bytes must be readable, and those of this ndarray are not: its items"),
    ("echo", None, "a payload must be bytes, another buffer, or str, not NoneType$"),
    ("echo", Column(), r"not Column: send its \.to_numpy\(\)$"),
    ("echo", Texts(), r"not Texts: request_json\(\) sends its \.tolist\(\), to handlers of guest\.HandleJSON$"),
    ("echo", Table(), r"not Table: send a column, or its columns as lists with request_json\(\)"),
    ("echo", {"a": 1}, r"not dict: request_json\(\) sends such values, to handlers of guest\.HandleJSON$"),
])
def test_a_request_that_cannot_be_made_says_why(app: gothreads.App, handler: object, payload: object,
                                                said: str) -> None:
    for ask in (app.request, app.submit_request):
        with pytest.raises(gothreads.MisuseError, match=said):
            ask(handler, payload)  # type: ignore[arg-type]


def test_payloads_that_a_handler_keeps_are_its_own(app: gothreads.App) -> None:
    kept = [(app.request("keep", f"payload {i}"), f"payload {i}".encode()) for i in range(300)]
    app.exports.churn(20_000)
    assert all(app.request("kept", number) == payload for number, payload in kept)


def test_a_handlers_error_is_an_exception_with_its_text_and_the_module_goes_on(app: gothreads.App) -> None:
    for timeout in (None, 60):
        with pytest.raises(gothreads.HandlerError) as caught:
            app.request("fail", "thanks", timeout=timeout)
        assert str(caught.value) == "no: thanks"
        assert caught.value.__notes__ == [f"from the handler 'fail' of {app.loaded.name}"]
    assert app.request("upper", "on") == b"ON"


def test_an_export_is_not_a_handler_and_the_errors_say_how_to_call_each(app: gothreads.App) -> None:
    with pytest.raises(gothreads.UnknownExport, match=r"There is an export of that name: app\.exports\.add\(…\)$"):
        app.request("add")
    with pytest.raises(gothreads.UnknownExport, match=r"A handler is called with app\.request\('upper', …\)$"):
        _ = app.exports.upper
    with pytest.raises(gothreads.UnknownExport, match=r"A handler is called with app\.submit_request\('upper', …\)$"):
        app.submit("upper")
    with pytest.raises(gothreads.UnknownExport, match=r"A handler is called with app\.request_async\('upper', …\)$"):
        asyncio.run(app.call_async("upper"))


def test_an_unknown_handler_is_an_error_that_lists_those_there_are(app: gothreads.App) -> None:
    with pytest.raises(gothreads.UnknownExport, match=r"'nope'; it has: echo, fail") as caught:
        app.request("nope")
    assert "upper" in caught.value.known
    with pytest.raises(gothreads.UnknownExport, match=r"no handler 'uper'\. Did you mean 'upper'\? It has: [^.]*$"):
        app.request("uper")


def test_wrong_arguments_raise_before_anything_runs(app: gothreads.App) -> None:
    with pytest.raises(gothreads.ArgumentError, match=r"takes 2 arguments, 1 given"):
        app.exports.add(1)
    with pytest.raises(gothreads.ArgumentError, match="'b' must be an int from -2147483648 to 2147483647"):
        app.submit("add", 1, 1 << 31)
    with pytest.raises(gothreads.UnknownExport, match=r"no export 'ad'\. Did you mean 'add'\? It has: add, [^.]*$"):
        app.exports.ad(1, 2)
    with pytest.raises(gothreads.MisuseError, match="payload must be bytes, another buffer, or str, not int"):
        app.request("echo", 3)  # type: ignore[arg-type]
    with pytest.raises(gothreads.ArgumentError, match="or str, not dict: request_json.. sends such values"):
        app.request("echo", {"a": 3})  # type: ignore[arg-type]
    with pytest.raises(gothreads.UnknownExport, match="functions go by their names here: 'add', not <export add"):
        app.submit(app.exports.add, 1, 2)  # type: ignore[arg-type]


def test_a_traceback_shows_at_most_one_function_of_gothreads(calls: Path) -> None:
    with gothreads.open(calls, stderr=io.BytesIO()) as app:
        wrong: list[Callable[[], object]] = [
            lambda: app.exports.add(1), lambda: app.exports.ad(1),
            lambda: app.request("fail", "x"), lambda: app.request("fai"), lambda: app.request("echo", 3),  # type: ignore[arg-type]
            lambda: app.request("fail", timeout=60), lambda: app.request_json("echo", object()),
            lambda: app.submit_request("fail").result(), lambda: asyncio.run(app.request_async("fail")),
            lambda: app.request("panic", "x"), lambda: app.request("echo"), lambda: app.exports.add(1, 2)]
        for call in wrong:
            with pytest.raises(gothreads.GothreadsError) as failed:
                call()
            assert len(own_frames(failed.value)) <= 1, (failed.value, own_frames(failed.value))


def test_a_call_after_a_panic_says_that_it_was_not_made_and_why(calls: Path) -> None:
    after = r"^this call was not made: the module had ended before it \(open it again, .*Why it ended: .*: the module has"
    with gothreads.open(calls, stderr=io.BytesIO()) as app:
        with pytest.raises(gothreads.GuestPanic, match=r"^\S+: the module has ended: panic: ") as own:
            app.request("panic", "x")
        later: list[Callable[[], object]] = [
            lambda: app.request("echo"), lambda: app.exports.add(1, 2), lambda: app.submit("add", 1, 2).result(),
            lambda: app.request("echo", timeout=60), lambda: app.signal("tick")]
        for call in later:
            with pytest.raises(gothreads.GuestPanic, match=after) as caught:
                call()
            assert (caught.value.message, caught.value.code) == (own.value.message, 2)
        assert str(app.error) == str(own.value)


@pytest.mark.parametrize("start", [gothreads.open, gothreads.supervise])
def test_a_traceback_of_a_wrong_call_shows_at_most_one_function_of_gothreads(start: Callable[..., Any], calls: Path) -> None:
    with start(calls) as app:
        wrong: list[Callable[[], object]] = [
            lambda: app.submit("add", 1), lambda: app.submit("ad"), lambda: app.map("ad", [1]),
            lambda: app.request("echo", 3), lambda: app.submit_request("echo", 3), lambda: app.submit_request("fail").result(),
            lambda: app.signal("", b""), lambda: app.signal("x", 3), lambda: app.send_signal("NO"),
            lambda: app.wait_idle(-1), lambda: app.goroutines(-1),
            lambda: asyncio.run(app.call_async("add", 1)), lambda: asyncio.run(app.request_async("echo", 3)),
            lambda: asyncio.run(app.request_json_async("echo", object())), lambda: asyncio.run(app.signal_async("", b""))]
        for place, call in enumerate(wrong):
            with pytest.raises((gothreads.GothreadsError, gothreads.MisuseError)) as failed:
                call()
            assert len(own_frames(failed.value)) <= 1, (place, failed.value, own_frames(failed.value))


def test_futures_and_map_run_at_the_same_time(app: gothreads.App) -> None:
    futures = [app.submit("ask", n) for n in range(100)]
    assert [future.result() for future in futures] == [2 * n for n in range(100)]
    assert list(app.map("add", range(50), range(50))) == [2 * n for n in range(50)]
    assert list(app.map("fib", range(15))) == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377]


def test_a_call_from_asyncio_does_not_block_the_event_loop(app: gothreads.App) -> None:
    async def run() -> tuple[list[int], int]:
        ticks = 0
        calls = asyncio.gather(*(app.call_async("sleep", 50) for _ in range(20)))
        while not calls.done():
            await asyncio.sleep(0.001)
            ticks += 1
        await calls
        return [await app.call_async("add", n, 1) for n in range(5)], ticks
    sums, ticks = asyncio.run(run())
    assert sums == [1, 2, 3, 4, 5]
    assert ticks > 3
    assert asyncio.run(app.request_async("upper", b"x")) == b"X"


def test_a_thread_with_a_small_stack_can_call_deep_go(app: gothreads.App) -> None:
    results: list[int] = []
    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=lambda: results.append(app.exports.deep(5_000)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert results == [5_000]


def test_two_exports_run_on_two_processors(app: gothreads.App) -> None:
    assert app.exports.procs() == app.options.procs
    statistics = app.statistics()
    assert statistics.state == "running"
    assert statistics.go is not None
    assert statistics.go.goroutines >= 1
    assert statistics.callers is not None
    assert statistics.callers.in_use == 0
    assert statistics.threads is not None
    assert statistics.threads.running >= 1
    assert statistics.memory == app.memory.size  # type: ignore[attr-defined]


def test_a_goroutine_that_ends_locked_to_its_thread_gives_the_thread_back(app: gothreads.App) -> None:
    for _ in range(5):
        assert app.exports.locked(20) == 20
    threads = app.statistics().threads
    assert threads is not None
    assert threads.started > threads.peak  # threads were reused
    wait_until(lambda: app.statistics().threads.running < 20)  # type: ignore[union-attr]


def test_standard_output_goes_to_a_file_object_and_writes_stay_whole(calls: Path) -> None:
    out = io.BytesIO()
    with gothreads.open(calls, stdout=out) as app:
        together(*(lambda c=c: app.exports.write(c * 99 + "\n", 50) for c in "abcdefgh"))
    lines = out.getvalue().decode().splitlines()
    assert sorted(lines) == sorted(c * 99 for c in "abcdefgh" for _ in range(50))


def test_standard_streams_may_be_of_text(calls: Path) -> None:
    out = io.StringIO()
    with gothreads.open(calls, args=["cat"], stdin=io.StringIO("ein Wort: näher\n"), stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    assert out.getvalue() == "ein Wort: näher\n"


def test_a_read_of_standard_input_that_waits_holds_up_nobody_and_ends_with_close(calls: Path) -> None:
    import os
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as source, gothreads.open(calls, args=["cat"], stdin=source,
                                                                      procs=1) as app:
        assert app.exports.add(1, 1) == 2
        assert list(app.map("fib", range(10)))[-1] == 34
        os.close(write)
        assert app.wait(PATIENCE) == 0


def test_arguments_and_environment_are_those_given(calls: Path) -> None:
    out = io.BytesIO()
    with gothreads.open(calls, args=["env", "a b", "ü"], env={"NAME": "värde"}, stdout=out) as app:
        assert app.wait(PATIENCE) == 0
        assert app.state is gothreads.State.EXITED
    assert out.getvalue().decode() == "[a b ü] värde\n"


def test_a_package_folder_opens_without_a_build_step() -> None:
    with gothreads.open(MODULES / "calls", trust=True, stderr=io.BytesIO()) as app:
        assert app.exports.add(20, 22) == 42


@pytest.mark.parametrize("procs", [1, 2, 4])
def test_calls_work_with_any_number_of_processors(calls: Path, procs: int) -> None:
    with gothreads.open(calls, procs=procs) as app:
        assert app.exports.procs() == procs
        assert together(*(lambda n=n: app.exports.ask(n) for n in range(10))) == [2 * n for n in range(10)]


@pytest.mark.long
def test_a_library_goes_on_without_main(tmp_path: Path) -> None:
    with gothreads.open(built("calls", buildmode="c-shared")) as app:
        assert together(*(lambda: app.exports.count() for _ in range(10)))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            assert sum(pool.map(app.exports.fib, [10] * 8)) == 8 * 55


def test_many_apps_run_in_one_process(calls: Path) -> None:
    apps = [gothreads.open(calls) for _ in range(5)]
    try:
        for app in apps:
            app.exports.count()
        apps[0].close()
        assert [app.exports.count() for app in apps[1:]] == [2] * 4
    finally:
        for app in apps:
            app.close()
