"""What typed functions are lent while a call lasts: file objects and callables (tests/modules/typed/lent.go)."""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import datetime
import gzip
import inspect
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy
import pytest

import gothreads
from gothreads.typed import lending
from tests.support.modules import MODELS, built, opened
from tests.support.patient import given_up_inside
from tests.support.waiting import PATIENCE, wait_until

NONE: dict[str, int] = {}
DATA = bytes(range(256)) * 3000  # more than one chunk


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


def test_a_timeout_says_what_becomes_of_a_function_with_or_without_a_context(app: Any) -> None:
    over = threading.Event()
    try:
        said = given_up_inside(lambda: app.apply([1.0], lambda x: x + over.wait(PATIENCE), timeout=0.05))
    finally:
        over.set()
    assert said.endswith("within 0.05 s; it takes no context.Context, so it goes on until it returns "
                         '(on_timeout="stop" would end the module)')
    assert given_up_inside(lambda: app.pause(600.0, timeout=0.05)).endswith("within 0.05 s; its context is cancelled")


@pytest.fixture(autouse=True)
def nothing_is_lent_in_the_end() -> Iterator[None]:
    before = len(lending._lent), len(lending._raised)
    yield
    wait_until(lambda: (len(lending._lent), len(lending._raised)) == before)


class Into:
    """A file object that has readinto only."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readinto(self, buffer: bytearray) -> int:
        return self._file.readinto(buffer)


class Fails:
    """A file object that fails."""

    error = OSError(5, "no such luck")

    def read(self, size: int) -> bytes:
        raise self.error

    def write(self, data: bytes) -> int:
        raise self.error


class Answers:
    """A file object that answers the same to every call."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def read(self, size: int) -> Any:
        return self._answer

    def write(self, data: bytes) -> Any:
        return self._answer


@pytest.mark.parametrize("model", [model for model in MODELS if model != "wasi-threads"])
def test_every_model_lends_to_go(model: str) -> None:
    app: Any
    with opened("typed", model=model) as app:
        assert app.read_all(io.BytesIO(DATA)) == DATA
        assert list(app.apply([1.0, 2.0], lambda x: x + 2)) == [3.0, 4.0]
        if model in ("threaded", "pool"):  # in the others, the call that waits for the callable has the only thread
            assert list(app.apply([1.0, 2.0], lambda x: x + app.add(1, 1))) == [3.0, 4.0]
        assert app.submit("apply", [1.0], lambda x: -x).result(60) == array.array("d", [-1.0])
        assert list(asyncio.run(app.apply_async([1.0], lambda x: -x))) == [-1.0]
        with pytest.raises(ZeroDivisionError):
            app.apply([0.0], lambda x: 1 / x)
        with pytest.raises(KeyError):
            app.attempt("return", lambda: NONE["x"])
        assert app.add(1, 2) == 3


def test_a_supervised_module_is_lent_to_also_after_its_end() -> None:
    app: Any
    with gothreads.supervise(built("typed")) as app:
        for _ in range(2):
            assert app.read_all(io.BytesIO(DATA)) == DATA
            assert app.submit("attempt", "return", lambda: None).result(60) == ""
            with pytest.raises(KeyError):
                app.attempt("return", lambda: NONE["x"], timeout=60)
            with pytest.raises(gothreads.GuestExit):
                app.functions.exit(3)


# File objects.

def test_file_objects_are_read_and_written(app: Any, tmp_path: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        assert app.read_all(file) == app.read_all(raw) == DATA
    with gzip.open(io.BytesIO(gzip.compress(DATA))) as packed:
        assert app.read_all(Into(DATA)) == app.read_all(packed) == DATA
    assert app.read_all(io.BytesIO()) == b""
    out = io.BytesIO()
    assert app.copy(out, io.BytesIO(DATA)) == len(DATA)
    assert app.write(out, DATA) == len(DATA)
    assert out.getvalue() == DATA * 2
    with path.open("wb", buffering=0) as raw:
        assert app.write(raw, DATA) == len(DATA)
    assert path.read_bytes() == DATA
    assert app.write(Answers(None), b"x") == 1  # as the write of many does


def test_chunks_are_bounded_and_go_reads_no_more_than_it_needs(app: Any) -> None:
    asked: list[int] = []

    class Counts(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            asked.append(size or 0)
            return super().read1(size)

        def write(self, data: Any, /) -> int:
            asked.append(len(data))
            return super().write(data)
    file = Counts(DATA)
    assert app.read_once(file, 10) == DATA[:10]
    assert (file.tell(), asked) == (10, [10])
    assert app.read_once(file, 0) == b""
    assert app.read_once(file, 1 << 20) == DATA[10:10 + (256 << 10)]
    assert asked == [10, 256 << 10]
    asked.clear()
    assert app.write(Counts(), DATA) == len(DATA)
    assert asked == [256 << 10, 256 << 10, len(DATA) - (512 << 10)]


def test_reading_takes_what_is_there(app: Any) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as other:
        other.write(b"abc")
        assert app.read_once(file, 1000) == b"abc"


def test_errors_of_file_objects_are_raised_as_they_are(app: Any) -> None:
    calls: list[Callable[[], Any]] = [lambda: app.read_all(Fails()), lambda: app.write(Fails(), b"x"),
                                      lambda: app.submit("copy", Fails(), io.BytesIO(b"x")).result(60)]
    for call in calls:
        with pytest.raises(OSError, match="no such luck") as raised:
            call()
        assert raised.value is Fails.error
    assert not hasattr(Fails.error, "__notes__")
    for answer, kind, why in (("text", TypeError, "returned str: bytes are needed"),
                              (None, BlockingIOError, "to read now"), (3, TypeError, "int"),
                              (b"x" * 20, gothreads.GoError, "^read_once: r: its read returned 20 ")):
        with pytest.raises(kind, match=why):
            app.read_once(Answers(answer), 10)
    for answer in (0, -1, 2, "x"):
        with pytest.raises(gothreads.GoError, match="^write: w: its "):
            app.write(Answers(answer), b"x")


@pytest.mark.parametrize(("call", "why"), [
    (lambda app: app.read_all(3), "^read_all: r: expected a file object that has read or readinto, got int$"),
    (lambda app: app.read_all(None), "^read_all: r: expected a file object that has read or readinto, got None$"),
    (lambda app: app.read_all(io.StringIO("x")), '^read_all: r: expected a file object of bytes, got one of text. .* mode$'),
    (lambda app: app.read_all(io.TextIOWrapper(io.BytesIO())), 'got one of text. .*, or give its buffer, such as sys.stdin.buf'),
    (lambda app: app.write(b"x", b"x"), "^write: w: expected a file object that has write, got bytes$"),
    (lambda app: app.apply([1.0], "f"), "^apply: f: expected a callable, got str$"),
    (lambda app: app.submit("apply", [1.0], None), "^apply: f: expected a callable, got None$"),
    (lambda app: app.filter(["a"], 1), "^filter: keep: expected a callable, got int$"),
    (lambda app: app.apply(["x"], abs), r"^apply: x\[0\]: expected float, got str$"),
    (lambda app: app.apply([1.0]), "^apply has no value for 'f': "),
])
def test_what_is_no_file_object_or_callable_is_refused(app: Any, call: Callable[[Any], Any], why: str) -> None:
    with pytest.raises(gothreads.ArgumentError, match=why) as error:
        call(app)
    said = str(error.value)
    assert said.split(": ")[1] == error.value.path or "has no value" in said


def test_the_context_ends_a_wait_for_a_file_object(app: Any) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb"):
        with pytest.raises(gothreads.CallTimeout):
            app.read_once(file, 10, timeout=0.2)
        assert app.add(1, 2) == 3


# Callables.

def test_values_cross_as_those_of_typed_functions(app: Any) -> None:
    def exchange(options: Any, when: Any, level: Any, *words: str) -> Any:
        assert options == app.types.Options(degree=1)
        assert when == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        assert level is app.types.Level.HIGH
        return {"degree": 2}, app.types.Level.LOW, [*words, "c"]
    assert app.exchange(exchange) == (app.types.Options(degree=2), app.types.Level.LOW, ["a", "b", "c"])
    assert app.exchange(lambda *_: (None, "", ())) == (None, app.types.Level(""), [])
    seen: list[str] = []
    app.tell(seen.append, "a", "b")
    assert seen == ["a", "b"]
    assert app.tell(lambda text: 3, "a") is None
    visited: list[Any] = []

    def visit(i: int, options: Any) -> bool:
        visited.append((i, options.degree))
        return i < 1
    assert app.visit([{}, {"degree": 1}, {}], visit) == 1
    assert visited == [(0, 0), (1, 1)]


@pytest.mark.parametrize("n", [0, 10, 100_000])
def test_numbers_cross_in_both_directions(app: Any, n: int) -> None:
    def double(x: Any, b: bytes) -> Any:
        assert isinstance(x, array.array)
        assert (len(x), len(b)) == (n, n)
        return numpy.asarray(x).astype("int32") * 2
    assert list(app.exchange_numbers(n, double)) == list(range(0, 2 * n, 2))


@pytest.mark.parametrize(("result", "why"), [
    ("x", "^apply: f: its result: expected float, got str$"),
    (None, "^apply: f: its result: expected float, got None$"),
    (object(), "^apply: f: its result: Go has no value for <object"),
])
def test_a_result_of_another_type_is_an_error(app: Any, result: Any, why: str) -> None:
    with pytest.raises((gothreads.GoError, gothreads.ArgumentError), match=why):
        app.apply([1.0], lambda x: result)


def test_results_have_a_path(app: Any) -> None:
    with pytest.raises(gothreads.GoError, match=r"^exchange: f: its result\[2\]\[1\]: expected str, got int$"):
        app.exchange(lambda *_: (None, "", ["a", 1]))
    with pytest.raises(gothreads.GoError, match=r"^exchange: f: its result: expected 3 items, got 2$"):
        app.exchange(lambda *_: (None, ""))


def test_an_exception_is_an_error_in_go_and_raised_if_go_returns_it(app: Any) -> None:
    error = ValueError("no such size")
    error.__cause__ = KeyError("cause")

    def fail() -> None:
        raise error
    with pytest.raises(ValueError, match="^no such size$") as raised:
        app.attempt("return", fail)
    assert raised.value is error
    assert isinstance(error.__cause__, KeyError)
    assert not hasattr(error, "__notes__")
    assert app.attempt("", fail) == "ValueError|no such size|attempt: f: ValueError: no such size"
    assert app.attempt("", lambda: None) == "<nil>"
    with pytest.raises(gothreads.GoError, match="^another$"):
        app.attempt("replace", fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="^no such size") as raised:
            app.attempt("wrap", fail)
        assert raised.value is error
        assert error.__notes__ == ["wrapped: attempt: f: ValueError: no such size"]
    with pytest.raises(app.types.ErrZero) as joined:
        app.submit("attempt", "join", fail).result(60)
    assert joined.value.__cause__ is error


def test_exceptions_without_a_text_and_of_any_kind(app: Any) -> None:
    class Odd(BaseException):
        def __str__(self) -> str:
            raise RuntimeError

    def fail(error: BaseException) -> Callable[[], None]:
        def run() -> None:
            raise error
        return run
    assert app.attempt("", fail(ValueError())) == "ValueError||attempt: f: ValueError"
    assert app.attempt("", fail(Odd())) == "Odd||attempt: f: Odd"
    assert app.attempt("", fail(ValueError("\ud800"))).startswith("ValueError|?|")
    for error in (SystemExit(3), StopIteration(), gothreads.CallTimeout("x"), asyncio.CancelledError()):
        with pytest.raises(type(error)) as raised:
            app.attempt("return", fail(error))
        assert raised.value is error


def test_an_exception_ends_the_call_if_the_func_has_no_error(app: Any) -> None:
    error = ValueError("no")

    def fail(*_: Any) -> int:
        raise error
    before = app.yielded()[1]
    calls: list[Callable[[], Any]] = [lambda: app.deferred(fail), lambda: app.submit("deferred", fail).result(60)]
    for call in calls:
        with pytest.raises(ValueError, match="^no$") as raised:
            call()
        assert raised.value is error
    assert app.yielded()[1] == before + 2  # deferred functions have run
    with pytest.raises(ValueError, match="^no$"):
        app.tell(fail, "a")
    with pytest.raises(ValueError, match="^no$"):
        list(app.filter(["a"], fail))
    assert app.deferred(lambda: 3) == 3


def test_in_another_goroutine_such_an_exception_is_a_panic() -> None:
    app: Any
    with opened("typed") as app:
        assert app.astray(lambda: 3) == 3
        with pytest.raises(gothreads.GuestError, match=r"astray: f: ZeroDivisionError: .*has no error result"):
            app.astray(lambda: 1 // 0)


def test_python_and_go_call_each_other(app: Any) -> None:
    def down(n: int) -> float:
        return 0.0 if n == 0 else app.apply([1.0], lambda x: x + down(n - 1))[0]
    assert down(20) == 20.0


def test_goroutines_call_at_the_same_time(app: Any) -> None:
    barrier = threading.Barrier(8)

    def meet(n: int) -> int:
        barrier.wait(PATIENCE)
        return n
    assert app.together(8, meet) == 28
    with pytest.raises(ZeroDivisionError):
        app.together(8, lambda n: n // (n - 3))


def test_a_callable_may_be_a_coroutine_function(app: Any) -> None:
    waiting: list[int] = []
    all_wait = asyncio.Event()

    async def meet(n: int) -> int:
        waiting.append(n)
        if len(waiting) == 1000:
            all_wait.set()
        await all_wait.wait()
        return n
    assert app.together(1000, meet) == sum(range(1000))

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")
    with pytest.raises(KeyError):
        app.attempt("return", fail)

    class Reads:
        def __init__(self) -> None:
            self.left = [b"ab", b"c", b""]

        async def read(self, size: int) -> bytes:
            await asyncio.sleep(0)
            return self.left.pop(0)
    assert app.read_all(Reads()) == b"abc"


def test_after_the_call_the_object_is_out_of_reach(app: Any) -> None:
    called: list[int] = []
    app.keep_lent(io.BytesIO(b"x"), lambda: called.append(1))
    read, func, over = app.use_kept()
    assert read == "keep_lent: r: the call is over for which Python lent it"
    assert func == "keep_lent: f: the call is over for which Python lent it"
    assert over
    assert called == []


def test_a_call_that_is_given_up_lends_nothing_any_more(app: Any) -> None:
    entered, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def visit(i: int, _: Any) -> bool:
        seen.append(i)
        entered.set()
        leave.wait(PATIENCE)
        return True
    future = app.submit("visit", [{}, {}], visit, timeout=60)
    assert entered.wait(PATIENCE)
    future.cancel()
    wait_until(lambda: not lending._lent)
    leave.set()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(60)
    assert seen == [0]


def test_only_the_last_exceptions_of_a_call_are_kept() -> None:
    with lending.Loan() as loan:
        numbers = [loan.keep(ValueError(n), "") for n in range(200)]
        kept = [number for number in numbers if lending.raised(number) is not None]
        assert kept == numbers[-lending._MOST_KEPT:]
    assert loan.keep(ValueError(), "") == 0


def test_an_iterator_keeps_what_it_was_lent_until_it_ends(app: Any) -> None:
    words = ["a", "bb", "c", "dd"]
    assert list(app.filter(words, lambda word: len(word) == 1)) == ["a", "c"]
    assert not lending._lent
    with app.filter(words, lambda word: len(word) == 1) as kept:
        assert next(kept) == "a"
        assert len(lending._lent) == 1
    assert not lending._lent
    kept = app.submit("filter", words, len).result(60)
    with pytest.raises(gothreads.GoError, match="^filter: keep: its result: expected bool, got int$"):
        next(kept)
    numbers = app.lines(io.BytesIO(b"abc"))
    assert list(itertools.islice(numbers, 2)) == [97, 98]
    del numbers
    wait_until(lambda: not lending._lent)
    with pytest.raises(OSError, match="no such luck") as raised:
        list(app.lines(Fails()))
    assert raised.value is Fails.error

    async def run() -> list[str]:
        return [word async for word in await app.filter_async(words, lambda word: word > "b")]
    assert asyncio.run(run()) == ["bb", "c", "dd"]


def test_lending_is_described(app: Any) -> None:
    assert str(inspect.signature(app.copy)) == "(w: typing.BinaryIO, r: typing.BinaryIO) -> int"
    assert str(inspect.signature(app.apply)) == (
        "(x: Sequence[float], f: Callable[[float], float]) -> array[float]")
    assert str(inspect.signature(app.visit)) == (
        "(options: list[Options], visit: Callable[[int, Options], bool]) -> int")
    assert str(inspect.signature(app.tell)) == "(f: Callable[[str], object], *words: str) -> None"
    assert "f: Callable[..., tuple[Options | None, Level, list[str]]]" in str(inspect.signature(app.exchange))
    assert app.apply.to_json()["params"][1]["python"] == "Callable[[float], float]"
    calls: list[Callable[[], Any]] = [lambda: app.apply.submit_json([[1], "f"], {}),
                                      lambda: app.apply.json_of_texts(["[1]", "f"])]
    for call in calls:
        with pytest.raises(gothreads.NotCallable, match=r"^apply takes callables or file objects \(f\), which JSON "):
            call()


def test_a_module_cannot_guess_what_is_lent() -> None:
    def called(_value: Any, _arguments: Any) -> None:
        raise AssertionError

    with lending.Loan() as loan:
        numbers = {loan.lend(lending.Lender("f: x", lambda _: None, called, lambda _: b""), None) for _ in range(100)}
        assert len(numbers) == 100
        assert max(numbers) > 1 << 48
        assert lending.answer(b"\x92\x01\x90") == b"\2"
    for damaged in (b"", b"\x01", b"\x92\x01", b"\x92\xc0\x90"):
        with pytest.raises(msgspec.MsgspecError):
            lending.answer(damaged)


@pytest.mark.parametrize("file", [io.BytesIO(DATA), Into(DATA)])
@pytest.mark.parametrize("size", [-1, 0, (256 << 10) + 1, 1 << 62, "x"])
def test_a_module_cannot_have_more_read_at_a_time(app: Any, file: Any, size: Any) -> None:
    lender = app.read_all._lenders[0]
    with lending.Loan() as loan:
        number = loan.lend(lender, file)
        reply = lending.answer(msgspec.msgpack.encode([number, [size]]))
        assert isinstance(reply, bytes)
        assert reply[0] == 1  # raised
        reply = lending.answer(msgspec.msgpack.encode([number, [1]]))
        assert isinstance(reply, bytes)
        assert (reply[0], len(reply)) == (0, 2)
