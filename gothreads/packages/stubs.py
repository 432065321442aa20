"""Writes a Python package for a module's typed functions, with stubs for type checkers and editors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gothreads.errors import MisuseError
from gothreads.files import make_folder, write_atomically
from gothreads.packages import DESCRIPTION, MODULE
from gothreads.runtime.module_file import LoadedModule
from gothreads.typed.names import Names
from gothreads.typed.schema import ClassSchema, ErrorSchema, Field, FunctionSchema, Schema, Type, read_schema

_INIT = '''"""Functions of the Go package {package}. Written by gothreads; not for editing."""

from gothreads.packages.running import fill as _fill

_fill(__name__)
'''
_HEAD = '''"""Functions of the Go package {package}. Written by gothreads; not for editing."""

import array as _array
import builtins as _builtins
import collections.abc as _abc
import datetime as _datetime
import enum as _enum
import typing as _typing

import gothreads as _gothreads
import msgspec as _msgspec
from gothreads.runtime.options import OpenOptions as _OpenOptions
from typing_extensions import Buffer as _Buffer

class _Array(_typing.Protocol):
    @property
    def __array_interface__(self) -> _builtins.dict[_builtins.str, _typing.Any]: ...
'''
#: What is defined only where it is used: by the shapes of parameters.
_PROTOCOLS = {
    "reader": '''class _Reads(_typing.Protocol):
    def read(self, size: _builtins.int, /) -> _Buffer | _abc.Awaitable[_Buffer]: ...

class _ReadsInto(_typing.Protocol):
    def readinto(self, buffer: _builtins.bytearray, /) -> _builtins.int: ...
''',
    "writer": '''class _Writes(_typing.Protocol):
    def write(self, data: _builtins.bytes, /) -> _builtins.object: ...
'''}
#: Go's name for the package of a program that is one file.
_OF_A_FILE = "command-line-arguments"
_OPTIONS = ('timeout: _builtins.float | None = None, on_timeout: _typing.Literal["cancel", "continue", "stop"] '
            '= "cancel"')


class _ResultNames(Names):
    """The types of results and fields."""

    builtins, classes = "_builtins.", ""
    array, datetime, typing, abc = "_array.", "_datetime.", "_typing.", "_abc."
    stream = "_gothreads.Stream"

    def of(self, kind: Type) -> str:
        if kind.shape == "numbers":
            return f"_array.array[{_number(kind)}]"
        return super().of(kind)


class _ArgumentNames(_ResultNames):
    """The types of arguments: more is taken than is returned."""

    def of(self, kind: Type) -> str:
        match kind.shape:
            case "numbers":
                return f"_abc.Sequence[{_number(kind)}] | _Buffer | _Array"
            case "bytes":
                return "_Buffer"
            case "list":
                return f"_abc.Sequence[{self.of(kind.of[0])}]"
            case "set":
                return f"_abc.Set[{self.of(kind.of[0])}]"
            case "dict":
                return f"_abc.Mapping[{self.of(kind.of[0])}, {self.of(kind.of[1])}]"
            case "reader":
                return "_Reads | _ReadsInto"
            case "writer":
                return "_Writes"
            case _:
                return super().of(kind)

    def of_callable(self, params: tuple[Type, ...], results: tuple[Type, ...]) -> str:
        result = self.result(results)
        returns = f"{result} | _abc.Awaitable[{result}]" if results else "_builtins.object"
        return f"_abc.Callable[{_RESULTS.takes(params)}, {returns}]"


_RESULTS, _ARGUMENTS = _ResultNames(), _ArgumentNames()


def _number(kind: Type) -> str:
    return "_builtins.float" if kind.name.startswith("float") else "_builtins.int"


def write_package(loaded: LoadedModule, folder: Path) -> list[str]:
    """Write a package for a module; returns the names of its files. MisuseError: it has no typed functions."""
    _, files = package_files(loaded)
    make_folder(folder)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return list(files)


def package_files(loaded: LoadedModule) -> tuple[str, Mapping[str, bytes]]:
    """The path of the Go package, and the files of the Python package: name -> content."""
    if loaded.metadata is None or loaded.metadata.typed is None:
        raise MisuseError(f"{loaded.name} has no typed functions. In Go, put //gothreads:export above a function")
    schema = read_schema(loaded.metadata.typed)
    package = min((function.package for function in schema.functions), key=len, default=_OF_A_FILE)
    if package == _OF_A_FILE:
        package = loaded.name
    return package, {"__init__.py": _INIT.format(package=package).encode(),
                     "__init__.pyi": stub(schema, package).encode(), "py.typed": b"",
                     DESCRIPTION: json.dumps(loaded.metadata.typed).encode(), MODULE: loaded.wasm}


def stub(schema: Schema, package: str) -> str:
    """The stub of the package."""
    shapes = {param.type.shape for each in schema.functions for param in each.params}
    parts = [_HEAD.format(package=package), *(text for shape, text in _PROTOCOLS.items() if shape in shapes)]
    parts += [_enumeration(each) if each.members else _struct(each) for each in schema.classes]
    parts += [_exception(each) for each in schema.errors]
    parts += [_function(each) for each in schema.functions]
    if all(each.name != "open" for each in schema.functions):
        parts.append("def open(**options: _typing.Unpack[_OpenOptions]) -> _gothreads.App: ...\n")
    return "\n".join(parts)


def _enumeration(schema: ClassSchema) -> str:
    base = "StrEnum" if all(isinstance(value, str) for _, value in schema.members) else "IntEnum"
    members = [f"    {name} = {value!r}" for name, value in schema.members]
    return _lines(f"class {schema.name}(_enum.{base}):", _documentation(schema.doc), *members)


def _struct(schema: ClassSchema) -> str:
    init = "".join(f", {field.name}: {_ARGUMENTS.of(field.type)} = ..." for field in schema.fields)
    star = ", *" if schema.fields else ""
    return _lines(f"class {schema.name}(_msgspec.Struct):", _documentation(schema.doc), *_attributes(schema.fields),
                  f"    def __init__(self{star}{init}) -> None: ...")


def _exception(schema: ErrorSchema) -> str:
    value = [] if schema.value is None else [f"    value: {_RESULTS.of(schema.value)}"]
    return _lines(f"class {schema.name}(_gothreads.GoError):", _documentation(schema.doc), *_attributes(schema.fields),
                  *value)


def _attributes(fields: Sequence[Field]) -> list[str]:
    lines = []
    for field in fields:
        lines.append(f"    {field.name}: {_RESULTS.of(field.type)}")
        if field.doc:
            lines += _documentation(field.doc)
    return lines


def _function(schema: FunctionSchema) -> str:
    params = [f"{param.name}: {_ARGUMENTS.of(param.type)}" for param in schema.params]
    if schema.variadic:
        last = schema.params[-1]
        item = {"numbers": _number(last.type), "bytes": "_builtins.int"}.get(last.type.shape) or _ARGUMENTS.of(
            last.type.of[0])
        params[-1] = f"*{last.name}: {item}"
    else:
        params.append("*")
    result = _RESULTS.result(schema.results)
    documentation = _documentation(f"{schema.doc}\n{schema.go}".strip())
    return "\n".join(_lines(f"{kind}def {schema.name}{suffix}({', '.join([*params, _OPTIONS])}) -> {result}:",
                            documentation, "    ...") for kind, suffix in (("", ""), ("async ", "_async")))


def _documentation(text: str) -> list[str]:
    """A docstring."""
    text = text.rstrip()
    if not text:
        return []
    if "\\" in text or '"""' in text or text.endswith('"') or not all(c.isprintable() or c == "\n" for c in text):
        return [f"    {text!r}"]
    first, *rest = text.splitlines()
    lines = [f'    """{first}', *(f"    {line}".rstrip() for line in rest)]
    if not rest:
        return [lines[0] + '"""']
    return [*lines, '    """']


def _lines(head: str, documentation: list[str], *body: str) -> str:
    lines = [head, *documentation, *body]
    return "\n".join(lines if len(lines) > 1 else [head, "    ..."]) + "\n"
