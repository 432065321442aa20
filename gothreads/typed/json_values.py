"""Values of typed functions as JSON, for the command line and HTTP.

JSON has no type for some of them. These are texts, as encoding/json or msgspec writes them: bytes (base64), times
(RFC 3339), durations (ISO 8601: "PT1.5S"), complex numbers ("1+2j"), and numbers that are not finite ("nan", "inf").
A struct is an object.
"""

from __future__ import annotations

import array
import base64
import contextlib
import datetime
import enum
import itertools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gothreads.errors import HandlerError
from gothreads.text import cut
from gothreads.typed.argument_errors import argument_error, at_key
from gothreads.typed.schema import ClassSchema, Type

#: Shapes whose values are texts in JSON -> Python's type, and what the text must be.
_TEXTS: Mapping[str, tuple[type, str]] = {
    "bytes": (bytes, "base64"), "time": (datetime.datetime, 'a time such as "2024-02-29T12:30:15Z"'),
    "duration": (datetime.timedelta, 'a duration such as "PT1.5S"')}
#: Of zero values. Others are 0.
_ZEROS: Mapping[str, Any] = {
    "bool": False, "string": "", "text": "", "complex64": "0j", "complex128": "0j", "any": None,
    "pointer": None, "time": "0001-01-01T00:00:00Z", "duration": "PT0S", "dict": {}, "set": [],
    "callable": None, "reader": None, "writer": None}
#: An example has no longer arrays, and no deeper ones.
_LONGEST_EXAMPLE, _DEEPEST_EXAMPLE = 16, 3
#: Shapes whose values are written as texts.
_WRITTEN = frozenset(("string", "text", "time", "duration", "complex64", "complex128"))
_NOT_FINITE = frozenset(("nan", "inf", "-inf"))
_BOOLS = {"true": True, "false": False}
#: Shapes, without their sizes -> what their values are in JSON.
_WHOLE = "a whole number"
_KINDS: Mapping[str, str] = {
    "bool": "a boolean", "int": _WHOLE, "uint": _WHOLE, "float": "a number", "string": "a string", "text": "a string",
    "list": "an array", "numbers": "an array", "set": "an array", "dict": "an object", "class": "an object"}


class JsonReader:
    """Makes arguments of JSON values. It converts only what JSON has no type for; Go checks the rest.

    function: whose arguments they are. classes: by their names.
    """

    def __init__(self, function: str, classes: Mapping[str, ClassSchema]) -> None:
        self._function, self._classes = function, classes

    def read(self, kind: Type, value: Any, path: str) -> Any:
        """The argument. ArgumentError: a text is not what it must be, or the value is nested too deeply.

        path: the parameter's name.
        """
        try:
            return self._read(kind, value, path)
        except RecursionError:
            raise argument_error(self._function, path, "it is nested too deeply") from None

    def misfit(self, kind: Type, value: Any, path: str) -> tuple[str, str] | None:
        """The path to the first part of a JSON value that is not of its type, and what is wrong with it, in JSON's
        words. None: there is no such part, or it is wrong in another way, which Go tells.
        """
        match kind.shape, value:
            case "pointer", None:
                return None
            case "pointer", _:
                return self.misfit(kind.of[0], value, path)
            case "list" | "set" | "numbers", list():
                parts = ((kind.item, item, f"{path}[{at}]") for at, item in enumerate(value))
            case "dict", dict():
                is_text = kind.of[0].shape in _WRITTEN
                parts = ((kind.of[1], item, path + (at_key(key) if is_text else f"[{key}]"))
                         for key, item in value.items())
            case "class", dict():
                types = {field.name: field.type for field in self._classes[kind.name].fields}
                parts = ((types[name], item, f"{path}.{name}") for name, item in value.items() if name in types)
            case _:
                wanted = self._wanted(kind)
                if wanted is None or (got := _kind_of(value)) == wanted or (got, wanted) == (_WHOLE, "a number"):
                    return None
                return path, f"expected {wanted}, got {got}"
        return next(filter(None, itertools.starmap(self.misfit, parts)), None)

    def _wanted(self, kind: Type) -> str | None:
        """What JSON's values of a type are. None: of several kinds."""
        if kind.shape == "class" and self._classes[kind.name].members:
            return "a string" if self._has_texts(kind) else _WHOLE
        return _KINDS.get(kind.shape.rstrip("0123456789"))

    def of_text(self, kind: Type, text: str, what: str) -> Any:
        """The JSON value that a person means by a text: the text itself if the type has texts, else what it says.

        ArgumentError: it is neither; `what` names it.
        """
        while kind.shape == "pointer" and text != "null":
            kind = kind.of[0]
        if kind.shape == "bytes":
            return base64.b64encode(os.fsencode(text)).decode()
        if kind.shape in _WRITTEN or (kind.shape == "class" and self._has_texts(kind)):
            return text
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, ValueError):
            if kind.shape in ("float32", "float64"):
                return text
            raise argument_error(self._function, "", f"{what} must be JSON, not {cut(text)}") from None

    def _has_texts(self, kind: Type) -> bool:
        """Whether a class is an enumeration of texts."""
        members = self._classes[kind.name].members
        return bool(members) and all(isinstance(value, str) for _, value in members)

    def example(self, kind: Type, depth: int = 0) -> Any:
        """A value of a type: Go's zero value. A struct has its fields only if it is the outermost value."""
        match kind.shape:
            case "class" if self._classes[kind.name].members:
                return "" if self._has_texts(kind) else 0
            case "class":
                fields = self._classes[kind.name].fields if depth == 0 else ()
                return {field.name: self.example(field.type, depth + 1) for field in fields}
            case "bytes":
                return base64.b64encode(bytes(min(kind.length or 0, _LONGEST_EXAMPLE))).decode()
            case "numbers":
                return [0] * min(kind.length or 0, _LONGEST_EXAMPLE)
            case "list":
                item = self.example(kind.of[0], depth + 1) if depth < _DEEPEST_EXAMPLE else None
                return [item] * min(kind.length or 0, _LONGEST_EXAMPLE)
            case shape:
                return _ZEROS.get(shape, 0)

    def _read(self, kind: Type, value: Any, path: str) -> Any:
        match kind.shape, value:
            case "bytes" | "time" | "duration", str():
                return self._text(kind.shape, value, path)
            case "float32" | "float64", _:
                return _as_float(value)
            case "complex64" | "complex128", str():
                return self._converted(complex, value, path, "a complex number such as \"1+2j\"")
            case "numbers", list() if kind.name.startswith("float"):
                return list(map(_as_float, value))
            case "pointer", _ if value is not None:
                return self._read(kind.of[0], value, path)
            case "list" | "set", list():
                return [self._read(kind.of[0], item, f"{path}[{at}]") for at, item in enumerate(value)]
            case "dict", dict():
                return {self._key(kind.of[0], key, path): self._read(kind.of[1], item, path + at_key(key))
                        for key, item in value.items()}
            case "class", dict():
                types = {field.name: field.type for field in self._classes[kind.name].fields}
                return {name: self._read(types[name], item, f"{path}.{name}") if name in types else item
                        for name, item in value.items()}
        return value

    def _text(self, shape: str, text: str, path: str, of: str = "") -> Any:
        kind, what = _TEXTS[shape]
        value = self._converted(lambda text: msgspec.convert(text, kind), text, path, what, of)
        if isinstance(value, datetime.datetime) and value.tzinfo is None:
            raise argument_error(self._function, path, f"{of}expected a time with a zone, got {cut(text)}. Add Z if it "
                                 "is UTC, or an offset such as +02:00")
        return value

    def _key(self, kind: Type, key: str, path: str) -> Any:
        """A key, which is a text in JSON whatever its type is."""
        of = "a key: "
        match kind.shape:
            case "bool":
                return _BOOLS.get(key, key)
            case "float32" | "float64":
                return self._converted(float, key, path, "a number", of)
            case "time":
                return self._text("time", key, path, of)
            case "class" if self._has_texts(kind):
                return key
            case "string":
                return key
        return self._converted(int, key, path, "a whole number", of)

    def _converted(self, convert: Callable[[str], Any], text: str, path: str, what: str, of: str = "") -> Any:
        """The text, converted. ArgumentError: it is not `what` it must be; `of` names the part of the value."""
        try:
            return convert(text)
        except (ValueError, msgspec.ValidationError):
            raise argument_error(self._function, path, f"{of}expected {what}, got {cut(text)}") from None


def _as_float(value: Any) -> Any:
    """A JSON value, for a float of Go: JSON has one kind of numbers, which are rounded."""
    if (isinstance(value, str) and value in _NOT_FINITE) or type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    return value


def _kind_of(value: Any) -> str:
    """What a JSON value is."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return _WHOLE
        case float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"


def to_json(value: Any) -> Any:
    """A result in JSON's types. RecursionError: it is nested too deeply."""
    match value:
        case enum.Enum():
            return value.value
        case float() if not math.isfinite(value):
            return str(value)
        case str() | int() | float() | None:
            return value
        case msgspec.Struct():
            return {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
        case array.array():
            return [to_json(item) for item in value] if value.typecode in "fd" else value.tolist()
        case list() | tuple() | set() | frozenset():
            return [to_json(item) for item in value]
        case dict():
            return {_json_key(key): to_json(item) for key, item in value.items()}
        case complex():
            return str(value).strip("()")
    return msgspec.to_builtins(value)


def _json_key(key: Any) -> str:
    text = to_json(key)
    return text if isinstance(text, str) else msgspec.json.encode(text).decode()


def as_json(what: str, value: Any) -> bytes:
    """A value's JSON. HandlerError: it cannot be written; `what` it is."""
    try:
        return msgspec.json.encode(to_json(value))
    except RecursionError:
        raise HandlerError(f"{what} is nested too deeply for JSON") from None
