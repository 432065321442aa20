"""Lends objects of Python's to Go while a call lasts: callables, and file objects.

What is lent crosses as a number. Go calls the object by it (build/goroot/gothreads/guest/wire/objects.go), through the
handler OBJECT, so that its goroutine waits as in guest.Call. The numbers are random: a module can use only what it was
given. So one table serves all apps, and a supervised module's next instance.

An exception that an object raises is kept until the loan ends, under a number that Go gets: if the Go function returns
the error, the call raises the exception itself.
"""

from __future__ import annotations

import errno
import inspect
import io
import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from msgspec import Raw
from msgspec.msgpack import Decoder, encode

from gothreads.bridge.handlers import Handler
from gothreads.text import words
from gothreads.typed.argument_errors import argument_error
from gothreads.typed.classes import Classes
from gothreads.typed.schema import Field, Type
from gothreads.typed.values import arguments_decoder, encode_result

#: How a call of an object was answered: the first byte of the reply.
_RETURNED, _RAISED, _OVER = b"\0", b"\1", b"\2"
#: Of the exceptions that the objects of one loan raise, so many are kept: Go may go on after each.
_MOST_KEPT = 64
#: The most bytes that are read at a time (wire/objects.go). A module that asks for more is none that Go has built.
_MOST_READ = 256 << 10
_request = Decoder(tuple[int, Raw])
_size, _data = Decoder(tuple[int]), Decoder(tuple[bytes])

#: What is lent, and what was raised, by number. Only loans add to them, and take away what they have added.
_lent: dict[int, _Lent] = {}
_raised: dict[int, tuple[BaseException, str]] = {}


class Loan:
    """What one call lends, until `close`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock. After `closed`, the tables have none of these.
        self._closed = False
        self._numbers: list[int] = []
        self._kept: deque[int] = deque()

    def lend(self, lender: Lender, value: Any) -> int:
        """The number of a value, which is lent from now on. ArgumentError: it is not of the parameter's type."""
        if (why := lender.refuses(value)) is not None:
            function, _, parameter = lender.name.partition(": ")
            raise argument_error(function, parameter, why)
        number = secrets.randbits(63)
        with self._lock:
            _lent[number] = _Lent(self, lender, value)
            self._numbers.append(number)
        return number

    def keep(self, error: BaseException, message: str) -> int:
        """The number of an exception, which is kept. 0: the call is over, and nobody asks for it.

        message: the error's text in Go.
        """
        number = secrets.randbits(63) | 1
        with self._lock:
            if self._closed:
                return 0
            _raised[number] = error, message
            self._kept.append(number)
            if len(self._kept) > _MOST_KEPT:
                del _raised[self._kept.popleft()]
        return number

    def close(self) -> None:
        """End the loan. A call of an object that is under way goes on."""
        with self._lock:
            self._closed = True
            for number in self._numbers:
                del _lent[number]
            for number in self._kept:
                del _raised[number]
            self._numbers.clear()
            self._kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class Lender:
    """How the arguments for one parameter are lent. Immutable.

    name: the function and the parameter, for messages.
    refuses: says why a value cannot be lent; None if it can.
    run: calls the value, with arguments that Go has encoded. It may return an awaitable.
    encode: writes what it returned.
    """

    name: str
    refuses: Callable[[Any], str | None]
    run: Callable[[Any, Raw], Any]
    encode: Callable[[Any], bytes]


class _Lent:
    """A value that is lent. Immutable."""

    def __init__(self, loan: Loan, lender: Lender, value: Any) -> None:
        self._loan, self._lender, self._value = loan, lender, value

    def call(self, arguments: Raw) -> bytes | Awaitable[bytes]:
        """Call it, for the reply. Whatever it raises is a reply, too."""
        try:
            result = self._lender.run(self._value, arguments)
            if inspect.isawaitable(result):
                return self._awaited(result)
            return _RETURNED + self._lender.encode(result)
        except BaseException as error:
            return self._reply(error)

    async def _awaited(self, awaitable: Awaitable[Any]) -> bytes:
        try:
            return _RETURNED + self._lender.encode(await awaitable)
        except Exception as error:
            return self._reply(error)

    def _reply(self, error: BaseException) -> bytes:
        kind, text = type(error).__name__, words(error).encode(errors="replace").decode()
        number = self._loan.keep(error, f"{self._lender.name}: {text}")
        return _RAISED + encode((number, kind, text.removeprefix(kind).removeprefix(": ")))


def answer(request: bytes) -> bytes | Awaitable[bytes]:
    """The handler OBJECT (typed/__init__.py)."""
    number, arguments = _request.decode(request)
    found = _lent.get(number)
    return _OVER if found is None else found.call(arguments)


def handler_of(loan: Loan, lender: Lender, value: Any) -> Handler:
    """A handler that calls a value alone."""
    lent = _Lent(loan, lender, value)
    return lambda request: lent.call(_request.decode(request)[1])


def raised(number: int) -> tuple[BaseException, str] | None:
    """The exception of that number, and the error's text in Go; None if it is not kept."""
    return _raised.get(number)


def lender_of(function: str, param: Field, classes: Classes) -> Lender:
    """How the arguments for a parameter of a shape in LENT are lent."""
    name = f"{function}: {param.name}"
    match param.type.shape:
        case "reader":
            return Lender(name, lambda file: _not_a_file(file, "read", "readinto"), _read, _bytes_read)
        case "writer":
            return Lender(name, lambda file: _not_a_file(file, "write"), _write, encode)
    params, results = (each.of for each in param.type.of)
    return lender_for(name, params, results, classes)


def lender_for(name: str, params: Sequence[Type], results: Sequence[Type], classes: Classes) -> Lender:
    """How a function with these parameters and results is lent."""
    decode, variadic = arguments_decoder(params, classes), bool(params) and params[-1].shape == "rest"

    def run(function: Callable[..., Any], arguments: Raw) -> Any:
        values = decode(arguments)
        return function(*values[:-1], *values[-1]) if variadic else function(*values)
    return Lender(name, lambda value: None if callable(value) else f"expected a callable, got {_type(value)}", run,
                  (lambda result: encode_result(name, result, results, classes)) if results else (lambda result: b""))


def _type(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _not_a_file(file: Any, *methods: str) -> str | None:
    """Why an object is not a file object that has one of these methods; None if it is."""
    if isinstance(file, io.TextIOBase):
        inner = "" if getattr(file, "buffer", None) is None else ", or give its buffer, such as sys.stdin.buffer"
        return f'expected a file object of bytes, got one of text. Open it with "b" in its mode{inner}'
    if not any(callable(getattr(file, method, None)) for method in methods):
        return f"expected a file object that has {' or '.join(methods)}, got {_type(file)}"
    return None


def _read(file: Any, arguments: Raw) -> Any:
    size, = _size.decode(arguments)
    if not 0 < size <= _MOST_READ:
        raise ValueError(f"the module wants to read {size:,} bytes: 1 to {_MOST_READ:,} can be read at a time")
    # read1 returns what is there, as Go's readers do; read may wait for all.
    if (read := getattr(file, "read1", None) or getattr(file, "read", None)) is not None:
        return read(size)
    buffer = bytearray(size)
    count = file.readinto(buffer)
    return None if count is None else buffer[:count]


def _bytes_read(data: Any) -> bytes:
    if data is None:
        raise BlockingIOError(errno.EAGAIN, "the file object has nothing to read now, and does not wait for it")
    if isinstance(data, str):
        raise TypeError("the file object's read returned str: bytes are needed")
    return bytes(memoryview(data))


def _write(file: Any, arguments: Raw) -> Any:
    data, = _data.decode(arguments)
    written = file.write(data)
    if written is None and isinstance(file, io.RawIOBase):
        raise BlockingIOError(errno.EAGAIN, "the file object has no room now, and does not wait for it")
    return written
