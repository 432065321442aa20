"""How values of Python's are written for a typed function, and read: MessagePack by msgspec, and buffers beside it.

The other side is build/goroot/gothreads/guest/wire, which has the layout, and checks the arguments.
"""

from __future__ import annotations

import array
import datetime
import struct
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw, ValidationError
from msgspec.msgpack import Decoder, Encoder, Ext
from msgspec.msgpack import decode as decode_once

from gothreads.bridge.buffers import NUMBER_CODES, PART_ALIGNMENT, Failed, Parts, PartsReply, Refused, Reply
from gothreads.errors import ArgumentError, GoError, HandlerError
from gothreads.text import cut, shown
from gothreads.typed.argument_errors import argument_error
from gothreads.typed.classes import Classes
from gothreads.typed.names import EXACT_NAMES
from gothreads.typed.schema import FunctionSchema, Type

#: The kinds of extensions (wire/numbers.go), by the typecodes of array.array.
_KINDS = {code: number for number, code in enumerate(NUMBER_CODES, 1)}
_CODES = {number: code for code, number in _KINDS.items()}
_COMPLEX, _PART = 11, 32
#: The kind of an error that is an exception of Python's (wire/call.go).
_EXCEPTION = -1
#: From this size in bytes, the buffers of arguments are parts.
_LEAST_PART = 32 << 10
_part, _complex = struct.Struct("<II"), struct.Struct("<dd")
#: The typecode of a buffer's items, by their format and size.
_FORMATS = {**{(code, array.array(code).itemsize): code for code in _KINDS},
            ("l", 8): "q", ("L", 8): "Q", ("l", 4): "i", ("L", 4): "I", ("n", 8): "q", ("N", 8): "Q", ("c", 1): "B"}


class ArgumentEncoder:
    """Writes the arguments of one function. Immutable."""

    def __init__(self, schema: FunctionSchema) -> None:
        self._schema = schema
        self._encode = _encoder.encode
        #: The places of the parameters whose arguments may be buffers.
        self._buffers = [at for at, param in enumerate(schema.params) if param.type.shape in ("numbers", "bytes")]

    def encode(self, args: Sequence[Any]) -> bytes | Parts:
        """The message with these arguments. ArgumentError: Go has no such values."""
        if self._buffers:
            return self._with_buffers(args)
        try:
            message: bytes = self._encode(args)
        except Exception as error:
            raise self._wrong(args, error) from None
        return message

    def _with_buffers(self, args: Sequence[Any]) -> bytes | Parts:
        values, parts, size = list(args), [], 0
        for at in self._buffers:
            value = values[at]
            if isinstance(value, list) or (isinstance(value, bytes) and len(value) < _LEAST_PART):
                continue
            try:
                found = _buffer_of(value)
            except (TypeError, ValueError, BufferError) as error:
                raise self._error(at, str(error)) from None
            if found is None:
                continue
            code, view = found
            if len(view) < _LEAST_PART:
                values[at] = Ext(_KINDS[code], bytes(view))
                continue
            values[at] = Ext(_KINDS[code] | _PART, _part.pack(size, len(view)))
            parts.append(view)
            size += len(view) + -len(view) % PART_ALIGNMENT
        try:
            head = self._encode(values)
        except Exception as error:
            raise self._wrong(values, error) from None
        return Parts(head, parts) if parts else head

    def _wrong(self, args: Sequence[Any], error: Exception) -> ArgumentError:
        """Why the arguments cannot be written: the first that cannot, and the path in it."""
        for at, value in enumerate(args):
            try:
                self._encode(value)
            except Exception as failed:
                path, why = _first_wrong(value, failed, 0)
                return self._error(at, why, path)
        return argument_error(self._schema.name, "", str(error))

    def _error(self, at: int, why: str, path: str = "") -> ArgumentError:
        return argument_error(self._schema.name, self._schema.params[at].name + path, why)


def _first_wrong(value: Any, failed: Exception, depth: int) -> tuple[str, str]:
    """The path to the part of a value that cannot be written, and why."""
    for path, part in _parts_of(value) if depth < 100 else ():
        try:
            _encoder.encode(part)
        except Exception as inner:
            further, why = _first_wrong(part, inner, depth + 1)
            return path + further, why
    if isinstance(failed, UnicodeEncodeError):
        return "", f"expected valid Unicode, got {cut(value)}"
    if isinstance(failed, OverflowError):
        return "", f"expected an int of 64 bits, got {cut(value)}"
    if isinstance(failed, RecursionError):
        return "", "it is nested too deeply"
    return "", str(failed) if isinstance(failed, ValueError) else f"Go has no value for {cut(value)}"


def _parts_of(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{cut(key)}]", part) for key, each in value.items() for part in (key, each)]
    if isinstance(value, list | tuple):
        return [(f"[{at}]", part) for at, part in enumerate(value)]
    if (fields := getattr(value, "__struct_fields__", None)) is not None:
        return [(f".{name}", getattr(value, name)) for name in fields]
    return []


def _other(value: Any) -> Any:
    """What msgspec writes instead of a value of a type that it does not know."""
    if isinstance(value, range):
        return list(value)
    if isinstance(value, complex):
        return Ext(_COMPLEX, _complex.pack(value.real, value.imag))
    if isinstance(value, datetime.datetime):  # of a subclass, such as pandas.Timestamp
        return datetime.datetime.combine(value.date(), value.timetz())
    if isinstance(value, datetime.timedelta):
        return datetime.timedelta(value.days, value.seconds, value.microseconds)
    if getattr(value, "ndim", None) != 0 and (found := _buffer_of(value)) is not None:
        return Ext(_KINDS[found[0]], bytes(found[1]))
    if hasattr(value, "tolist"):  # rows; or one of NumPy's numbers, or times, texts or the like
        items = list(value) if getattr(value, "ndim", 0) > 1 else _with_microseconds(value).tolist()
        if type(items) is not type(value):
            return items
    elif hasattr(value, "to_numpy"):  # a table
        return value.to_numpy()
    raise TypeError(f"Go has no value for {cut(value)}")


def _with_microseconds(value: Any) -> Any:
    """Of NumPy's times and durations, these to the microsecond: in nanoseconds, their tolist() has integers."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return value.astype(f"{kind}8[us]") if kind in ("m", "M") and not hasattr(value, "to_numpy") else value


def _buffer_of(value: Any) -> tuple[str, memoryview] | None:
    """The typecode and the bytes of a buffer of numbers of one dimension; None for anything else. ValueError."""
    has_list = hasattr(value, "dtype")  # NumPy's arrays have tolist() for what is not plain numbers
    try:
        view = memoryview(value)
    except TypeError:
        return None
    except ValueError:
        if has_list:  # times
            return None
        raise
    if view.ndim != 1:
        return None
    code = _FORMATS.get((view.format.lstrip("@=<") if view.itemsize > 1 else view.format, view.itemsize))
    if code is None:
        if has_list or view.format == "?":
            return None
        raise ValueError(f"expected a buffer of numbers, got one of format {view.format!r}")
    return code, (view if view.c_contiguous else memoryview(view.tobytes())).cast("B")


_encoder = Encoder(enc_hook=_other)


def encode_result(name: str, value: Any) -> bytes:
    """What a Python function has returned to Go, without parts. ArgumentError: Go has no such value."""
    try:
        return _encoder.encode(value)
    except Exception as failed:
        path, why = _first_wrong(value, failed, 0)
        raise argument_error(name, f"its result{path}", why) from None


def arguments_decoder(types: Sequence[Type], classes: Classes) -> Callable[[Raw], tuple[Any, ...]]:
    """What reads the arguments with which Go calls a Python function."""
    names = ", ".join(map(EXACT_NAMES.of, types)) or "()"
    return Decoder(classes.evaluate(f"_builtins.tuple[{names}]"), ext_hook=_extension, dec_hook=_custom).decode


class _Decoder:
    """Reads messages of one type. Immutable.

    empty: they have no value.
    """

    def __init__(self, name: str, kind: Any, *, empty: bool = False) -> None:
        self._name, self._type, self._empty = shown(name), kind, empty
        self._decode = Decoder(kind, ext_hook=_extension, dec_hook=_custom).decode

    def decode(self, reply: Reply) -> Any:
        """The value. HandlerError: it is not what the module describes."""
        try:
            if isinstance(reply, PartsReply):
                return decode_once(reply.head, type=self._type, dec_hook=_custom,
                                   ext_hook=lambda code, data: _extension(code, data, reply.arrays))
            value = self._decode(reply)
            return None if self._empty else value
        except Exception as error:
            raise HandlerError(f"{self._name}: the result is not what the module describes: {error}") from None


class ResultDecoder(_Decoder):
    """Reads the results of one function; of one that returns an iterator, its number. Immutable."""

    def __init__(self, schema: FunctionSchema, classes: Classes) -> None:
        kind: Any = tuple[()]
        if schema.results:
            is_stream = schema.results[0].shape == "stream"
            kind = int if is_stream else classes.evaluate(EXACT_NAMES.result(schema.results))
        super().__init__(schema.name, kind, empty=not schema.results)


class BatchDecoder(_Decoder):
    """Reads items of the iterator that one function returns, and whether they are the last. Immutable."""

    def __init__(self, schema: FunctionSchema, classes: Classes) -> None:
        item = EXACT_NAMES.of(schema.results[0].of[0])
        super().__init__(schema.name, classes.evaluate(f"_builtins.tuple[_builtins.list[{item}], _builtins.bool]"))


def _extension(code: int, data: memoryview, arrays: Sequence[array.array[Any]] = ()) -> Any:
    if code == _COMPLEX:
        return complex(*_complex.unpack(data))
    if code & _PART:
        number, length = _part.unpack(data)
        numbers = arrays[number]
        if (numbers.typecode, len(numbers) * numbers.itemsize) != (_CODES[code & ~_PART], length):
            raise ValueError("a part is not what it should be")
        return numbers
    numbers = array.array(_CODES[code])
    numbers.frombytes(data)
    return numbers


def _custom(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValidationError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


class ErrorDecoder:
    """Makes exceptions of the errors of a module's functions. Immutable."""

    def __init__(self, classes: Classes, raised: Callable[[int], tuple[BaseException, str] | None]) -> None:
        """raised: as lending.raised."""
        self._classes, self._raised = classes, raised

    def _attributes(self, number: int, encoded: Raw) -> dict[str, Any]:
        """The attributes of an error of that kind."""
        schema = self._classes.schema.errors[number]
        if schema.value is not None:
            return {"value": self._decoded(encoded, EXACT_NAMES.of(schema.value))}
        if not schema.fields:
            return {}
        types = ", ".join(EXACT_NAMES.of(field.type) for field in schema.fields)
        values = self._decoded(encoded, f"_builtins.tuple[{types}]")
        return {field.name: value for field, value in zip(schema.fields, values, strict=True)}

    def _decoded(self, encoded: Raw, text: str) -> Any:
        return decode_once(encoded, type=self._classes.evaluate(text), ext_hook=_extension, dec_hook=_custom)

    def refused(self, name: str, refused: Refused) -> BaseException:
        """The exception for a call that has not returned. Raise it outside of `except`: it may be the program's own."""
        try:
            if not isinstance(refused, Failed):
                path, message = decode_once(refused.reply, type=tuple[str, str])
                return argument_error(shown(name), path, shown(message))
            message, pairs = decode_once(refused.reply, type=tuple[str, list[Raw]])
            return self._failed(message, pairs)
        except Exception as error:
            return HandlerError(f"{shown(name)}: the error is not what the module describes: {error}")

    def _failed(self, message: str, pairs: list[Raw]) -> BaseException:
        numbers = [decode_once(pairs[at], type=int) for at in range(0, len(pairs), 2)]
        values = dict(zip(numbers, pairs[1::2], strict=True))
        kept = self._raised(decode_once(values.pop(_EXCEPTION), type=int)) if _EXCEPTION in values else None
        if kept is not None and not values:
            error, as_in_go = kept
            if message not in (as_in_go, *getattr(error, "__notes__", ())):  # Go has wrapped it
                error.add_note(message)
            return error
        made = _combined(tuple(self._classes.errors[number] for number in values))(message)
        for number, encoded in values.items():
            made.__dict__.update(self._attributes(number, encoded))
        if kept is not None:
            made.__cause__ = kept[0]
        return made


def _combined(kinds: tuple[type[GoError], ...]) -> type[GoError]:
    """A class of all these kinds: Go's errors.Is and errors.As may hold for several."""
    if len(kinds) < 2:
        return kinds[0] if kinds else GoError
    found = _COMBINED.get(kinds)
    if found is None:
        found = _COMBINED[kinds] = type(kinds[0].__name__, kinds, {"__module__": kinds[0].__module__,
                                                                  "__doc__": kinds[0].__doc__})
    return found


_COMBINED: dict[tuple[type[GoError], ...], type[GoError]] = {}
