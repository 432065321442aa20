"""The Go signature of a function that a module exports or imports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from gothreads.text import shown

_NUMBERS = ("int32", "uint32", "int64", "uint64", "float32", "float64")
# How a value crosses between host and guest. "pointer" is any *T; "?" is a type the source reader cannot resolve.
TYPES = frozenset(("bool", *_NUMBERS, "uintptr", "unsafe.Pointer", "string", "pointer", "?"))

# Go's identifiers, and a few others. Not str.isidentifier, which rejects some letters that Go accepts.
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Parameter:
    """A parameter of an exported or imported function. Immutable: any thread may read it.

    name: a Go identifier; arg0, arg1… where the source has no name.
    type: one of TYPES.
    """

    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"

    def to_json(self) -> dict[str, object]:
        """The parameter as from_json() takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Parameter:
        """The parameter of a JSON object, which need not be trusted. Raises ValueError when it is malformed."""
        fields = _object(value, "a parameter")
        return cls(_identifier(fields, "name"), _type(fields, "type"))


@dataclass(frozen=True)
class Signature:
    """The Go signature of an exported function. Immutable: any thread may read it.

    name: the name of the export (or import), any text without spaces.
    go: the declaration on one line, as in "func add(a, b int32) int32".
    function, package: Go identifiers.
    doc: the doc comment without its markers, "" or ending in a newline.
    params: in the order of the call.
    result: one of TYPES; None when the function returns nothing.
    position: "file.go:12", the file without its folder, lines counted from 1.
    """

    name: str
    go: str
    function: str
    package: str
    doc: str
    params: tuple[Parameter, ...]
    result: str | None
    position: str

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.params))}) -> {self.result}"

    @property
    def declaration(self) -> str:
        """`go`, with the export's name, by which it is called, instead of the function's. It is safe to display."""
        return shown(self.go.replace(f"func {self.function}(", f"func {self.name}(", 1))

    def to_json(self) -> dict[str, object]:
        """The signature as from_json() takes it, of values that json.dumps() takes."""
        return asdict(self) | {"params": [parameter.to_json() for parameter in self.params]}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The signature of a JSON object, which need not be trusted. Raises ValueError when it is malformed.

        Unknown keys are ignored: a later version may add some.
        """
        return cls(**cls._fields(_object(value, "a signature")))

    @classmethod
    def _fields(cls, fields: Mapping[str, object]) -> dict[str, Any]:
        return {
            "name": _name(fields, "name"),
            "go": _line(fields, "go"),
            "function": _identifier(fields, "function"),
            "package": _identifier(fields, "package"),
            "doc": _text(fields, "doc"),
            "params": tuple(map(Parameter.from_json, _list(fields, "params"))),
            "result": None if _get(fields, "result") is None else _type(fields, "result"),
            "position": _line(fields, "position"),
        }


@dataclass(frozen=True)
class ImportSignature(Signature):
    """The Go signature of a function that a module imports from its host, as `name` in the wasm module `module`."""

    module: str

    @classmethod
    def _fields(cls, fields: Mapping[str, object]) -> dict[str, Any]:
        return super()._fields(fields) | {"module": _name(fields, "module")}


def _wrong(what: str, expected: str, value: object) -> ValueError:
    # The message has the type, not the value, which may be huge: the source may be hostile.
    return ValueError(f"{what} must be {expected}, not {type(value).__name__}")


def _object(value: object, what: str) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    raise _wrong(what, "a JSON object", value)


def _get(fields: Mapping[str, object], key: str) -> object:
    if key in fields:
        return fields[key]
    raise ValueError(f"{key!r} is missing")


def _list(fields: Mapping[str, object], key: str) -> list[object]:
    value = _get(fields, key)
    if isinstance(value, list):
        return value
    raise _wrong(repr(key), "a list", value)


def _text(fields: Mapping[str, object], key: str) -> str:
    value = _get(fields, key)
    if not isinstance(value, str):
        raise _wrong(repr(key), "a string", value)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        # JSON can encode half of a surrogate pair, which cannot be printed.
        raise ValueError(f"{key!r} must be valid Unicode")
    return value


def _line(fields: Mapping[str, object], key: str) -> str:
    value = _text(fields, key)
    if shown(value) != value:  # it is displayed
        raise ValueError(f"{key!r} must be one line, without control characters, not {value[:80]!r}")
    return value


def _name(fields: Mapping[str, object], key: str) -> str:
    value = _line(fields, key)
    if not value or value.split() != [value]:
        raise ValueError(f"{key!r} must be a name without spaces, not {value[:80]!r}")
    return value


def _identifier(fields: Mapping[str, object], key: str) -> str:
    value = _text(fields, key)
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError(f"{key!r} must be a Go identifier, not {value[:80]!r}")
    return value


def _type(fields: Mapping[str, object], key: str) -> str:
    value = _text(fields, key)
    if value not in TYPES:
        raise ValueError(f"{key!r} must be one of {', '.join(sorted(TYPES))}, not {value[:80]!r}")
    return value
