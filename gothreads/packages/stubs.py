"""Writes a Python package for a module's typed functions, with stubs for type checkers and editors."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from gothreads.errors import MisuseError
from gothreads.files import make_folder, write_atomically
from gothreads.packages import DESCRIPTION, MODULE
from gothreads.runtime.app import App
from gothreads.runtime.module_file import LoadedModule
from gothreads.typed.names import Names, number
from gothreads.typed.schema import (
    ClassSchema,
    ErrorSchema,
    Field,
    FunctionSchema,
    ImportSchema,
    Schema,
    Type,
    read_schema,
)

_INIT = '''"""Functions of the Go package {package}. Written by gothreads; not for editing."""

from gothreads.packages.running import fill as _fill

_fill(__name__)
'''
_HEAD = '''"""Functions of the Go package {package}. Written by gothreads; not for editing."""

{imports}

'''
#: What a stub imports, if it uses it: by the name there.
_IMPORTS = {
    "_ABCMeta": "from abc import ABCMeta as _ABCMeta", "_array": "import array as _array",
    "_builtins": "import builtins as _builtins", "_abc": "import collections.abc as _abc",
    "_datetime": "import datetime as _datetime", "_enum": "import enum as _enum", "_typing": "import typing as _typing",
    "_gothreads": "import gothreads as _gothreads", "_msgspec": "import msgspec as _msgspec",
    "_OpenOptions": "from gothreads.runtime.options import OpenOptions as _OpenOptions",
    "_OptionsWithoutImports": "from gothreads.runtime.options import OptionsWithoutImports as _OptionsWithoutImports",
    "_Buffer": "from typing_extensions import Buffer as _Buffer"}
#: What a stub defines, if it uses it: by a name there.
_PROTOCOLS = {
    "_Array": '''class _Array(_typing.Protocol):
    @property
    def __array_interface__(self) -> _builtins.dict[_builtins.str, _typing.Any]: ...
''',
    "(_Reads|_ReadsInto)": '''class _Reads(_typing.Protocol):
    def read(self, size: _builtins.int, /) -> _Buffer | _abc.Awaitable[_Buffer]: ...

class _ReadsInto(_typing.Protocol):
    def readinto(self, buffer: _builtins.bytearray, /) -> _builtins.int: ...
''',
    "_Writes": '''class _Writes(_typing.Protocol):
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
                array = " | _Array" if _is_matrix(kind) else ""
                return f"_abc.Sequence[{self.of(kind.of[0])}]{array}"
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
        return f"_abc.Callable[{_RESULTS.takes(params)}, {self.returns(results)}]"

    def returns(self, results: tuple[Type, ...]) -> str:
        """The type of what a Python function returns, which may be a coroutine function."""
        result = self.result(results)
        return f"{result} | _abc.Awaitable[{result}]" if results else "_builtins.object"


def _is_matrix(kind: Type) -> bool:
    """Whether it is a list of rows of numbers, for which an array of more dimensions may stand."""
    return kind.shape == "list" and (kind.of[0].shape == "numbers" or _is_matrix(kind.of[0]))


_RESULTS, _ARGUMENTS = _ResultNames(), _ArgumentNames()


def _number(kind: Type) -> str:
    return f"_builtins.{number(kind)}"


def write_package(loaded: LoadedModule, folder: Path) -> list[str]:
    """Write a package for a module; returns the names of its files.

    MisuseError: it has no typed functions, or one whose name the package has itself.
    """
    _, files = package_files(loaded)
    make_folder(folder)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return list(files)


def package_files(loaded: LoadedModule) -> tuple[str, Mapping[str, bytes]]:
    """The path of the Go package, and the files of the Python package: name -> content.

    MisuseError as write_package.
    """
    if loaded.metadata is None or loaded.metadata.typed is None:
        raise MisuseError(f"{loaded.name} has no typed functions. In Go, put //gothreads:export above a function")
    schema = read_schema(loaded.metadata.typed)
    _check_names(schema)
    package = min((function.package for function in schema.functions), key=len, default=_OF_A_FILE)
    if package == _OF_A_FILE:
        package = loaded.name
    return package, {"__init__.py": _INIT.format(package=package).encode(),
                     "__init__.pyi": stub(schema, package).encode(), "py.typed": b"",
                     DESCRIPTION: json.dumps(loaded.metadata.typed).encode(), MODULE: loaded.wasm}


def _check_names(schema: Schema) -> None:
    """MisuseError if a function would hide what the package has under its name."""
    classes = [each.name for each in schema.classes] + [each.name for each in schema.errors]
    taken = {**{name: f"class {name}" for name in classes}, "open": "open()"}
    for function in schema.functions:
        if function.name in taken:
            raise MisuseError(f"{function.position}: {function.name} would hide the package's {taken[function.name]}. "
                              f"Give the function another name in Python: //gothreads:export {function.name}_it")


def stub(schema: Schema, package: str) -> str:
    """The stub of the package."""
    parts = [_enumeration(each) if each.members else _struct(each) for each in schema.classes]
    parts += [_exception(each) for each in schema.errors]
    parts += [_function(each) for each in schema.functions]
    parts += _open(schema)
    body = "\n".join(parts)
    body = "\n".join([*(text for name, text in _PROTOCOLS.items() if _uses(body, name)), body])
    imports = "\n".join(text for name, text in _IMPORTS.items() if _uses(body, name))
    return _HEAD.format(package=package, imports=imports) + body


def _uses(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


def _enumeration(schema: ClassSchema) -> str:
    base = "StrEnum" if all(isinstance(value, str) for _, value in schema.members) else "IntEnum"
    members = [f"    {name} = {value!r}" for name, value in schema.members]
    return _lines(f"class {schema.name}(_enum.{base}):", _documentation(schema.doc), *members)


def _struct(schema: ClassSchema) -> str:
    init = "".join(f", {field.name}: {_ARGUMENTS.of(field.type)} = ..." for field in schema.fields)
    return _lines(f"class {schema.name}(_msgspec.Struct):", _documentation(schema.doc), *_attributes(schema.fields),
                  f"    def __init__(_self, /{init}) -> None: ...")


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


def _function(schema: FunctionSchema, first: str = "") -> str:
    """A function, and its twin for asyncio. first: what comes before its parameters."""
    params = [f"{param.name}: {_ARGUMENTS.of(param.type)}" for param in schema.params]
    if schema.variadic:
        last = schema.params[-1]
        params[-1] = f"*{last.name}: {_ARGUMENTS.of(last.type.item)}"
    else:
        params.append("*")
    if first:
        params.insert(0, first)
    result = _RESULTS.result(schema.results)
    documentation = _documentation(f"{schema.doc}\n{schema.go}".strip())
    return "\n".join(_lines(f"{kind}def {schema.name}{suffix}({', '.join([*params, _OPTIONS])}) -> {result}:",
                            documentation, "    ...") for kind, suffix in (("", ""), ("async ", "_async")))


def _open(schema: Schema) -> list[str]:
    """`open`, what it returns, and the types of what implements the imports."""
    methods = [textwrap.indent(_function(each, "_self"), "    ") for each in schema.functions
               if not hasattr(App, each.name) and not hasattr(App, f"{each.name}_async")]
    parts = [_lines("class _App(_gothreads.App, metaclass=_ABCMeta):", [], *methods)]
    if not schema.imports:
        return [*parts, "def open(**options: _typing.Unpack[_OpenOptions]) -> _App: ...\n"]
    given = [f"    {each.name}: {_implementation(each)}" for each in schema.imports]
    return [*parts, *(_protocol(each) for each in schema.imports if _is_interface(each)),
            _lines("class _Imports(_typing.TypedDict):", [], *given),
            "def open(*, imports: _Imports, **options: _typing.Unpack[_OptionsWithoutImports]) -> _App: ...\n"]


def _implementation(schema: ImportSchema) -> str:
    """The type of what implements an import: for an interface, an object or its class."""
    if _is_interface(schema):
        return f"_Import_{schema.name} | _abc.Callable[[], _Import_{schema.name}]"
    return _ARGUMENTS.of_callable(tuple(param.type for param in schema.methods[0].params), schema.methods[0].results)


def _is_interface(schema: ImportSchema) -> bool:
    return schema.methods[0].name != ""


def _protocol(schema: ImportSchema) -> str:
    methods = []
    for method in schema.methods:
        params = ["_self", *map(_RESULTS.parameter, method.params)]
        params.insert(len(params) - params[-1].startswith("*"), "/")  # before what takes any number of them
        methods.append(f"    def {method.name}({', '.join(params)}) -> {_ARGUMENTS.returns(method.results)}: ...")
    return _lines(f"class _Import_{schema.name}(_typing.Protocol):", _documentation(schema.doc), *methods)


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
