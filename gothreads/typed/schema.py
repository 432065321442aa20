"""The description of a module's typed functions, as the build has written it. It is not trusted, so it is checked."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gothreads.bridge.buffers import NUMBER_CODES
from gothreads.errors import ModuleError
from gothreads.wasm.metadata import Metadata

T = TypeVar("T")

#: Go's types of numbers -> the typecode of array.array for a slice of them.
NUMBERS = dict(zip(("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"),
                   NUMBER_CODES, strict=True))
BASIC = frozenset((*NUMBERS, "bool", "string", "complex64", "complex128"))
#: Shape -> the kinds of what follows it.
_SHAPES: Mapping[str, str] = {"class": "name", "time": "", "duration": "", "text": "text", "any": "", "bytes": "length",
                              "numbers": "number length", "list": "type length", "set": "type", "dict": "type type",
                              "pointer": "type"}
#: The shapes of what is lent to Go while a call lasts: numbers stand for it.
LENT = frozenset(("callable", "reader", "writer"))
#: How deeply types may be nested, without classes.
_DEEPEST = 50
_MOST = 10_000


@dataclass(frozen=True)
class Type:
    """A type of Go's. Immutable.

    shape: one of BASIC or _SHAPES; of a result, also "stream": an iterator of items, which may be of shape "tuple";
        of a parameter, also "reader", "writer" or "callable".
    name: of a class; Go's, of numbers and text.
    of: the types of items, or of keys and items; of a callable, two tuples: its parameters, of which the last may be of
        shape "rest": a list of any number of them; and its results.
    length: of an array.
    """

    shape: str
    name: str = ""
    of: tuple[Type, ...] = ()
    length: int | None = None

    @property
    def item(self) -> Type:
        """The type of an item of a slice."""
        match self.shape:
            case "bytes":
                return Type("uint8")
            case "numbers":
                return Type(self.name)
        return self.of[0]


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a class. `go` is the type in Go."""

    name: str
    go: str
    type: Type
    doc: str


@dataclass(frozen=True)
class FunctionSchema:
    """A typed function. `go` is its declaration."""

    name: str
    go: str
    package: str
    doc: str
    position: str
    params: tuple[Field, ...]
    results: tuple[Type, ...]
    variadic: bool
    context: bool
    fails: bool

    @property
    def body(self) -> str | None:
        """The parameter for which a stream of bytes can stand: an io.Reader, if nothing else is lent."""
        lent = [param for param in self.params if param.type.shape in LENT]
        return lent[0].name if len(lent) == 1 and lent[0].type.shape == "reader" and not self.variadic else None


@dataclass(frozen=True)
class ClassSchema:
    """A struct, or with members an enumeration. `tag` begins the struct's encoding."""

    name: str
    go: str
    doc: str
    tag: int
    fields: tuple[Field, ...]
    members: tuple[tuple[str, int | str], ...]


@dataclass(frozen=True)
class ErrorSchema:
    """A kind of error. `value`: the type of its attribute of that name."""

    name: str
    go: str
    doc: str
    fields: tuple[Field, ...]
    value: Type | None


@dataclass(frozen=True)
class MethodSchema:
    """A function that Python implements. `name`: "" if it is not a method. `go`: the method, or the type of a func."""

    name: str
    go: str
    params: tuple[Field, ...]
    results: tuple[Type, ...]


@dataclass(frozen=True)
class ImportSchema:
    """A variable of Go's that Python implements. `go` is its declaration."""

    name: str
    go: str
    package: str
    doc: str
    position: str
    methods: tuple[MethodSchema, ...]


@dataclass(frozen=True)
class Schema:
    """All of a module's typed functions and imports, and what they need."""

    functions: tuple[FunctionSchema, ...] = ()
    classes: tuple[ClassSchema, ...] = ()
    errors: tuple[ErrorSchema, ...] = ()
    imports: tuple[ImportSchema, ...] = ()


def read_schema(value: Mapping[str, Any]) -> Schema:
    """Check a description. ModuleError: it is malformed."""
    try:
        schema = Schema(tuple(_items(value, "functions", _function)), tuple(_items(value, "classes", _class)),
                        tuple(_items(value, "errors", _error)),
                        tuple(_items(value, "imports", _import)) if "imports" in value else ())
        names = [each.name for each in schema.classes] + [each.name for each in schema.errors]
        if len({*names}) != len(names) or any(len({each.name for each in those}) != len(those)
                                                 for those in (schema.functions, schema.imports)):
            raise ValueError("a name is there twice")
        classes = {each.name for each in schema.classes}
        for name in _classes_used(schema):
            if name not in classes:
                raise ValueError(f"there is no class {name!r:.80}")
        return schema
    except (ValueError, TypeError, RecursionError) as error:
        raise ModuleError(f"the module's description of its typed functions is malformed: {error}. Rebuild it: "
                          "gothreads build") from None


def declared_by(about: Metadata | None) -> Schema:
    """What a module declares by its metadata; nothing if it has none. ModuleError: the description is malformed."""
    return read_schema(about.typed) if about is not None and about.typed else Schema()


def _classes_used(schema: Schema) -> Iterator[str]:
    fields = [field for each in schema.classes for field in each.fields]
    fields += [field for each in schema.errors for field in each.fields]
    fields += [field for function in schema.functions for field in function.params]
    methods = [method for each in schema.imports for method in each.methods]
    fields += [field for method in methods for field in method.params]
    stack = [field.type for field in fields] + [each for function in schema.functions for each in function.results]
    stack += [each for method in methods for each in method.results]
    while stack:
        found = stack.pop()
        stack += found.of
        if found.shape == "class":
            yield found.name


def _items(value: Mapping[str, Any], key: str, read: Callable[[Mapping[str, Any]], T]) -> list[T]:
    items = value.get(key)
    if not isinstance(items, list) or len(items) > _MOST:
        raise ValueError(f"{key!r} is not a list, or is too long")
    for item in items:
        if not isinstance(item, dict):
            raise ValueError(f"an item of {key!r} is not an object")
    return [read(item) for item in items]


def _function(value: Mapping[str, Any]) -> FunctionSchema:
    params = tuple(_items(value, "params", _param))
    _check_distinct(params)
    results = tuple(map(_result, _list(value, "results")))
    if len(results) > 1 and any(each.shape == "stream" for each in results):
        raise ValueError("an iterator is not the only result")
    return FunctionSchema(_name(value), _text(value, "go"), _text(value, "package"), _text(value, "doc"),
                          _text(value, "position"), params, results,
                          _flag(value, "variadic"), _flag(value, "context"), _flag(value, "fails"))


def _class(value: Mapping[str, Any]) -> ClassSchema:
    fields = tuple(_items(value, "fields", _field))
    _check_distinct(fields)
    tag = value.get("tag")
    if type(tag) is not int or not 0 <= tag < 1 << 32:
        raise ValueError("a tag is not a number of 32 bits")
    return ClassSchema(_name(value), _text(value, "go"), _text(value, "doc"), tag, fields,
                       tuple(_items(value, "members", _member)))


def _member(value: Mapping[str, Any]) -> tuple[str, int | str]:
    number = value.get("value")
    if not isinstance(number, int | str) or isinstance(number, bool):
        raise ValueError("a constant is neither a number nor a text")
    return _name(value), number


def _error(value: Mapping[str, Any]) -> ErrorSchema:
    fields = tuple(_items(value, "fields", _field))
    _check_distinct(fields)
    own = value.get("value")
    return ErrorSchema(_name(value), _text(value, "go"), _text(value, "doc"), fields,
                       None if own is None else _type(own))


def _field(value: Mapping[str, Any]) -> Field:
    return Field(_name(value), _text(value, "go"), _type(value.get("type")), _text(value, "doc"))


def _param(value: Mapping[str, Any]) -> Field:
    """A parameter: also ["reader"], ["writer"], or ["callable", parameters, results]."""
    match value.get("type"):
        case ["reader" | "writer" as shape]:
            kind = Type(shape)
        case ["callable", [*params], [*results]]:
            last = len(params) - 1
            takes = tuple(_taken(each, may_be_rest=at == last) for at, each in enumerate(params))
            kind = Type("callable", of=(Type("tuple", of=takes), Type("tuple", of=tuple(map(_type, results)))))
        case other:
            kind = _type(other)
    return Field(_name(value), _text(value, "go"), kind, _text(value, "doc"))


def _taken(value: object, *, may_be_rest: bool) -> Type:
    """The type of a parameter of a Python function: also ["rest", type]."""
    match value:
        case ["rest", last] if may_be_rest:
            return Type("rest", of=(_type(last),))
    return _type(value)


def _import(value: Mapping[str, Any]) -> ImportSchema:
    methods = tuple(_items(value, "methods", _method))
    names = [method.name for method in methods]
    if not names or len({*names}) != len(names) or ("" in names and len(names) > 1):
        raise ValueError("the methods of an import have no names of their own")
    return ImportSchema(_name(value), _text(value, "go"), _text(value, "package"), _text(value, "doc"),
                        _text(value, "position"), methods)


def _method(value: Mapping[str, Any]) -> MethodSchema:
    items = _list(value, "params")
    last = len(items) - 1
    params = tuple(Field(_name(item), _text(item, "go"), _taken(item.get("type"), may_be_rest=at == last),
                         _text(item, "doc")) for at, item in enumerate(_items(value, "params", lambda item: item)))
    _check_distinct(params)
    return MethodSchema("" if value.get("name") == "" else _name(value), _text(value, "go"), params,
                        tuple(map(_type, _list(value, "results"))))


def _check_distinct(fields: tuple[Field, ...]) -> None:
    if len({field.name for field in fields}) != len(fields):
        raise ValueError("a field's name is there twice")


def _result(value: object) -> Type:
    """The type of a result: also the items of an iterator, ["stream", type], each of which may be a pair."""
    match value:
        case ["stream", ["tuple", key, item]]:
            return Type("stream", of=(Type("tuple", of=(_type(key), _type(item))),))
        case ["stream", item]:
            return Type("stream", of=(_type(item),))
    return _type(value)


def _type(value: object, depth: int = 0) -> Type:
    if not isinstance(value, list) or not value or not isinstance(value[0], str) or depth > _DEEPEST:
        raise ValueError("a type is not a list that begins with a name, or is nested too deeply")
    shape, *rest = value
    if shape in BASIC and not rest:
        return Type(shape)
    kinds = _SHAPES.get(shape)
    if kinds is None or len(rest) > len(kinds.split()):
        raise ValueError(f"there is no type {shape!r:.80} of that form")
    name, of, length = "", [], None
    for at, kind in enumerate(kinds.split()):
        if at >= len(rest):
            if kind != "length":
                raise ValueError(f"a part of the type {shape!r} is missing")
            break
        part = rest[at]
        match kind:
            case "name":
                name = _identifier(part)
            case "text" if isinstance(part, str):
                name = part
            case "number" if part in NUMBERS:
                name = part
            case "length" if type(part) is int and 0 <= part < 1 << 31:
                length = part
            case "type":
                of.append(_type(part, depth + 1))
            case _:
                raise ValueError(f"a part of the type {shape!r} is wrong")
    return Type(shape, name, tuple(of), length)


def _name(value: Mapping[str, Any]) -> str:
    return _identifier(value.get("name"))


def _identifier(name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"a name is not one in Python: {name!r:.80}")
    return name


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{key!r} is not a text")
    return text


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    items = value.get(key)
    if not isinstance(items, list) or len(items) > _MOST:
        raise ValueError(f"{key!r} is not a list, or is too long")
    return items


def _flag(value: Mapping[str, Any], key: str) -> bool:
    flag = value.get(key)
    if not isinstance(flag, bool):
        raise ValueError(f"{key!r} is neither true nor false")
    return flag
