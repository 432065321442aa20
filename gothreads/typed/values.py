"""How values of Python's are written for a typed function, and read: MessagePack by msgspec, and buffers beside it.

The other side is build/goroot/gothreads/guest/wire, which has the layout, and checks the arguments.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw, ValidationError
from msgspec.msgpack import Decoder, Ext
from msgspec.msgpack import decode as decode_once

from gothreads.bridge.buffers import PART_ALIGNMENT, Failed, Parts, PartsReply, Refused, Reply
from gothreads.errors import ArgumentError, GoError, HandlerError
from gothreads.text import shown
from gothreads.typed.argument_errors import argument_error
from gothreads.typed.classes import Classes
from gothreads.typed.encoding import COMPLEX, COMPLEX_KIND, ENCODER, KINDS, WrongValue, buffer_of, first_wrong
from gothreads.typed.names import EXACT_NAMES
from gothreads.typed.schema import FunctionSchema, Type

_CODES = {number: code for code, number in KINDS.items()}
#: Added to the kind of an extension whose numbers are a part (wire/numbers.go).
_PART = 32
#: The kind of an error that is an exception of Python's (wire/call.go).
_EXCEPTION = -1
#: From this size in bytes, the buffers of arguments are parts.
_LEAST_PART = 32 << 10
_part = struct.Struct("<II")


class ArgumentEncoder:
    """Writes the arguments of one function. Immutable."""

    def __init__(self, schema: FunctionSchema, classes: Classes) -> None:
        self._schema, self._classes = schema, classes
        self._encode = ENCODER.encode
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
                found = buffer_of(value)
            except (TypeError, ValueError, BufferError) as error:
                raise self._error(at, str(error), error.path if isinstance(error, WrongValue) else "") from None
            if found is None:
                continue
            code, view = found
            if len(view) < _LEAST_PART:
                values[at] = Ext(KINDS[code], bytes(view))
                continue
            values[at] = Ext(KINDS[code] | _PART, _part.pack(size, len(view)))
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
                path, why = first_wrong(value, failed, self._schema.params[at].type, self._classes.described)
                return self._error(at, why, path)
        return argument_error(self._schema.name, "", str(error))

    def _error(self, at: int, why: str, path: str = "") -> ArgumentError:
        return argument_error(self._schema.name, self._schema.params[at].name + path, why)


def encode_result(name: str, value: Any, types: Sequence[Type], classes: Classes) -> bytes:
    """What a Python function has returned to Go, without parts. ArgumentError: Go has no such value.

    types: of the results.
    """
    try:
        return ENCODER.encode(value)
    except Exception as failed:
        path, why = first_wrong(value, failed, types[0] if len(types) == 1 else None, classes.described)
        raise argument_error(name, f"its result{path}", why) from None


def arguments_decoder(types: Sequence[Type], classes: Classes) -> Callable[[Raw], tuple[Any, ...]]:
    """What reads the arguments with which Go calls a Python function."""
    names = ", ".join(map(EXACT_NAMES.of, types)) or "()"
    return Decoder(classes.evaluate(f"_builtins.tuple[{names}]"), ext_hook=_extension, dec_hook=_custom).decode


class TypeDecoder:
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


class ResultDecoder(TypeDecoder):
    """Reads the results of one function; of one that returns an iterator, its number. Immutable."""

    def __init__(self, schema: FunctionSchema, classes: Classes) -> None:
        kind: Any = tuple[()]
        if schema.results:
            is_stream = schema.results[0].shape == "stream"
            kind = int if is_stream else classes.evaluate(EXACT_NAMES.result(schema.results))
        super().__init__(schema.name, kind, empty=not schema.results)


class BatchDecoder(TypeDecoder):
    """Reads items of the iterator that one function returns, and whether they are the last. Immutable."""

    def __init__(self, schema: FunctionSchema, classes: Classes) -> None:
        item = EXACT_NAMES.of(schema.results[0].of[0])
        super().__init__(schema.name, classes.evaluate(f"_builtins.tuple[_builtins.list[{item}], _builtins.bool]"))


def _extension(code: int, data: memoryview, arrays: Sequence[array.array[Any]] = ()) -> Any:
    if code == COMPLEX_KIND:
        return complex(*COMPLEX.unpack(data))
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

    def refused(self, name: str, refused: Refused, told: Callable[[str, str], tuple[str, str]] | None = None,
                ) -> BaseException:
        """The exception for a call that has not returned. Raise it outside of `except`: it may be the program's own.

        told: tells in other words what is wrong with an argument: of a path to it, and why.
        """
        try:
            if not isinstance(refused, Failed):
                path, message = decode_once(refused.reply, type=tuple[str, str])
                if told is not None:
                    path, message = told(path, message)
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
