"""The Python classes for a module's types: msgspec structs, enumerations, exceptions.

They lie in `app.types`: a Python module of their own, which is named after the description, or the package that
`gothreads stubs` has made. So apps of the same module share their classes, and values can be pickled, for a process
that has opened the module or can import the package.
"""

from __future__ import annotations

import array
import builtins
import datetime
import enum
import functools
import hashlib
import json
import sys
import threading
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NoReturn

import msgspec

from gothreads.errors import GoError
from gothreads.text import closest, cut
from gothreads.typed import TYPES
from gothreads.typed.names import EXACT_NAMES, NAMES
from gothreads.typed.schema import NUMBERS, ClassSchema, ErrorSchema, Field, Schema, Type, read_schema

_UTC_ZERO = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
_ZEROS: Mapping[str, Any] = {"bool": False, "string": "", "complex64": 0j, "complex128": 0j, "time": _UTC_ZERO,
                             "duration": datetime.timedelta(), "text": "", "any": None, "pointer": None, "float32": 0.0,
                             "float64": 0.0}
_lock = threading.Lock()


class Classes:
    """The classes of a module's types, as attributes of `module`."""

    def __init__(self, schema: Schema, module: ModuleType) -> None:
        self.schema, self.module = schema, module
        name = module.__name__
        self.module.__dict__.update(_builtins=builtins, _array=array, _datetime=datetime, _typing=typing,
                                    _types=self.module)
        made: dict[str, type] = {}
        sys.modules[name] = module  # where msgspec resolves annotations
        for each in schema.classes:
            made[each.name] = self._enumeration(each) if each.members else self._struct(each)
            setattr(self.module, each.name, made[each.name])
        #: The exception classes, by the numbers of the kinds of errors.
        self.errors = [_exception(each, name) for each in schema.errors]
        for kind in self.errors:
            setattr(self.module, kind.__name__, kind)
        #: What describes a struct or an enumeration, by its name.
        self.described = {each.name: each for each in schema.classes}
        #: The names of all classes.
        self.names = sorted([*made, *(kind.__name__ for kind in self.errors)])

    def evaluate(self, text: str) -> Any:
        """The type that an annotation of EXACT_NAMES means."""
        return eval(text, self.module.__dict__)  # it consists of names that were checked, and of brackets

    def _struct(self, schema: ClassSchema) -> type:
        fields = [(field.name, EXACT_NAMES.of(field.type), self._default(field.type)) for field in schema.fields]
        # The tag is the first item of the array. The default of its name, "type", would forbid a field of that name.
        made: type = msgspec.defstruct(schema.name, fields, array_like=True, tag=schema.tag, tag_field="#",
                                       module=self.module.__name__,
                                       namespace={"__doc__": _documentation(schema)})
        return made

    def _default(self, kind: Type) -> Any:
        """The zero value of Go, for msgspec."""
        match kind.shape:
            case "class" | "numbers" | "list" | "set" | "dict" | "bytes":
                return msgspec.field(default_factory=lambda: self._zero(kind))
            case shape:
                return _ZEROS.get(shape, 0)

    def _zero(self, kind: Type) -> Any:
        match kind.shape:
            case "class":
                made = getattr(self.module, kind.name)
                if not issubclass(made, enum.Enum):
                    return made()
                return made("" if issubclass(made, str) else 0)
            case "numbers":
                code = NUMBERS[kind.name]
                return array.array(code, bytes(array.array(code).itemsize * (kind.length or 0)))
            case "bytes":
                return bytes(kind.length or 0)
            case "list":
                return [self._zero(kind.of[0]) for _ in range(kind.length or 0)]
            case "set":
                return set()
            case "dict":
                return {}
            case shape:
                return _ZEROS.get(shape, 0)

    def _enumeration(self, schema: ClassSchema) -> type:
        texts = all(isinstance(value, str) for _, value in schema.members)
        base: Any = _OpenStr if texts else _OpenInt
        made: Any = base(schema.name, list(schema.members), module=self.module.__name__)
        if not texts:
            for member in made:
                if member > _LARGEST_MEMBER:
                    del made._value2member_map_[member.value]
            made._value2member_map_.setdefault(0, made(0))  # msgspec wants one
        made.__doc__ = schema.doc.rstrip() or schema.go
        kind: type = made
        return kind


#: msgspec refuses enumerations with larger members; but asks _missing_ for values that it does not know.
_LARGEST_MEMBER = (1 << 63) - 1


class _ByValue:
    """Pickled and copied by value. Until Python 3.11.3, enumerations are by the name, which open ones may not have."""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.value,)  # type: ignore[attr-defined]


class _OpenInt(_ByValue, enum.IntEnum):
    """Go's enumerations are open: any value of the type is one."""

    @classmethod
    def _missing_(cls, value: object) -> _OpenInt | None:
        if type(value) is not int:
            return None
        if value > _LARGEST_MEMBER and (found := [member for member in cls if member == value]):
            return found[0]
        made = int.__new__(cls, value)
        made._name_, made._value_ = str(value), value
        return made


class _OpenStr(_ByValue, enum.StrEnum):
    """As _OpenInt."""

    @classmethod
    def _missing_(cls, value: object) -> _OpenStr | None:
        if not isinstance(value, str):
            return None
        made = str.__new__(cls, value)
        made._name_, made._value_ = value, value
        return made


def _documentation(schema: ClassSchema) -> str:
    text = schema.doc.rstrip() or schema.go
    fields = "".join(_field_line(field) for field in schema.fields)
    return f"{text}\n\n{fields}".rstrip()


def _field_line(field: Field) -> str:
    doc = " ".join(field.doc.split())
    return f"{field.name} ({field.go}): {doc}\n" if doc else f"{field.name} ({field.go})\n"


def _exception(schema: ErrorSchema, module: str) -> type[GoError]:
    attributes: dict[str, Any] = {"__module__": module, "__doc__": schema.doc.rstrip() or schema.go,
                                  "__annotations__": {field.name: NAMES.of(field.type) for field in schema.fields}}
    return type(schema.name, (GoError,), attributes)


def classes_of(description: Mapping[str, Any], package: ModuleType | None = None) -> Classes:
    """The classes of a module's types: the same ones for the same description. ModuleError: it is malformed.

    package: where to put them, unless they were made before.
    """
    text = json.dumps(description, sort_keys=True)
    with _lock:
        if (found := _made.get(text)) is None:
            if package is None:
                digest = hashlib.sha256(text.encode()).hexdigest()[:16]
                package = ModuleType(f"{TYPES}{digest}", "The types of a Go module.")
                package.__dict__["__getattr__"] = functools.partial(_missing, package)
            found = _made[text] = Classes(read_schema(json.loads(text)), package)
        return found


def _missing(package: ModuleType, name: str) -> NoReturn:
    """What `package.name` raises if there is none."""
    known = [other for other in vars(package) if not other.startswith("_")]
    meant = "" if (close := closest(name, known)) is None else f". Did you mean {close}?"
    raise AttributeError(f"the module has no type {cut(name)}{meant}", name=name, obj=package)


_made: dict[str, Classes] = {}
