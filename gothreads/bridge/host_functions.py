"""Host functions: Python functions that a module imports. They are checked against its imports before it starts.

The imports' signatures come from the Go source (//go:wasmimport, kept in the metadata). If only the WebAssembly types
are known, the Python function's annotations decide: `str` and `bytes` take two i32 each, `bool` one.

    Go                                    Python
    bool                                  bool
    int32, uint32, int64, uint64          int
    float32, float64                      float
    string                                str, invalid UTF-8 as U+FFFD; or bytes, if annotated so
    pointers, unsafe.Pointer, uintptr     int, an address in Context.memory

A parameter annotated `gothreads.Context` gets the context, in any position. All other annotations are ignored.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gothreads.bridge.context import CallContext
from gothreads.bridge.exports import FIELDS, LETTERS, converter, describe, from_wasm, matches, python_type, type_words
from gothreads.engine import ffi
from gothreads.engine.function_types import wasmtime_type
from gothreads.errors import MemoryAccessError, MisuseError, ModuleError, listed
from gothreads.text import cut, shown
from gothreads.wasi.process import LARGEST_TRANSFER
from gothreads.wasm.binary import VALUE_TYPES, FuncType, Module
from gothreads.wasm.origins import made_for
from gothreads.wasm.passes.threads import HOST, WASI
from gothreads.wasm.signature import ImportSignature, Parameter, Signature

Key = tuple[str, str]
Function = Callable[..., Any]

_KNOWN: Mapping[object, str] = {int: "int", float: "float", bool: "bool", str: "str", bytes: "bytes", None: "None", type(None): "None"}
_BY_NAME = {name: name for name in _KNOWN.values()} | {"Context": "Context", "gothreads.Context": "Context"}
_INTS = ("int32", "uint32", "int64", "uint64", "uintptr", "unsafe.Pointer", "pointer")
# Go type -> the annotations that a parameter, and a result, may have.
_TAKES = {"bool": {"bool", "int"}, "string": {"str", "bytes"}, "float32": {"float"}, "float64": {"float"}, **{kind: {"int", "float"} for kind in _INTS}}
_GIVES = {"bool": {"bool"}, "float32": {"float", "int"}, "float64": {"float", "int"}, **{kind: {"int"} for kind in _INTS}}
#: The most lines that one error lists.
_MOST_SHOWN = 100
_HINT = ("the module cannot wait for a coroutine in the middle of a host function: give an ordinary one, or call it from Go as a handler "
         "(guest.Call), which may be a coroutine")


@dataclass(frozen=True)
class _Wanted:
    """A function that the module imports. `signature`: from the Go source; None unless that is unambiguous."""

    key: Key
    kind: FuncType
    signature: ImportSignature | None
    shown: str

    @property
    def name(self) -> str:
        return shown(".".join(self.key))


class HostImports:
    """The host functions of one app, checked. MisuseError lists all mistakes; ModuleError: only missing functions."""

    def __init__(self, title: str, module: Module, declared: Sequence[ImportSignature], given: Mapping[Key, Function],
                 provided: Callable[[str, str], bool]) -> None:
        """Check the given functions against the module's imports.

        title: the module's name in messages.
        provided: whether an import (module, name) is provided by something else.
        """
        wanted = _wanted(title, module, declared, provided)
        self._fitted: dict[Key, tuple[_Wanted, _Fitted]] = {}
        missing, wrong, hint = [], [], None
        for key, want in wanted.items():
            if key not in given:
                missing.append(f"{want.name} is missing: {want.shown}")
                continue
            try:
                self._fitted[key] = want, _Callee(given[key]).fit(want)
            except MisuseError as error:
                wrong.append(f"{want.name}: {error}")
        unused = {(s.module, s.name) for s in declared}  # Go's linker drops the imports that nothing calls
        there = listed(sorted(map(".".join, wanted))) or "none"
        if extra := [".".join(key) for key in given if key not in wanted and key not in unused]:
            many = len(extra) > 1
            wrong.append(f"{listed(extra)} {'are' if many else 'is'} given, but the module does not import {'them' if many else 'it'}; it imports: {there}")
        if missing:
            module_name, name = map(shown, next(key for key in wanted if key not in given))
            hint = (f'Functions come from Python: gothreads.open(..., host={{"{module_name}": {{"{name}": function}}}}); on the command line: '
                    '--python FILE')
        if wrong:
            raise MisuseError(_lines(f"{title}: the host functions are not what the module wants:", wrong + missing, hint))
        if missing:
            if (origin := made_for(module)) is not None:
                raise ModuleError(f"{title}: the module was built for {origin}")
            raise ModuleError(_lines(f"{title}: the module imports functions that nobody provides:", missing, hint))

    def has(self, module: str, name: str) -> bool:
        return (module, name) in self._fitted

    def define(self, functions: ffi.HostFunctions, context: CallContext) -> None:
        """Define the functions in a linker, for instances that use the context's memory."""
        for (module, name), (want, fitted) in self._fitted.items():
            functions.define(module, name, wasmtime_type(want.kind), params=fitted.letters,
                             result=LETTERS[fitted.result] if fitted.result else "",
                             implementation=fitted.compile(want.name, context), own=False)


def _lines(head: str, items: Sequence[str], hint: str | None) -> str:
    left = [f"… and {len(items) - _MOST_SHOWN:,} more"] if len(items) > _MOST_SHOWN else []
    return "\n  ".join([head, *items[:_MOST_SHOWN], *left, *([hint] if hint else [])])


def _wanted(title: str, module: Module, declared: Sequence[ImportSignature], provided: Callable[[str, str], bool]) -> dict[Key, _Wanted]:
    found: dict[Key, _Wanted] = {}
    declarations: dict[Key, list[ImportSignature]] = {}
    for signature in declared:
        declarations.setdefault((signature.module, signature.name), []).append(signature)
    for imported in module.imported_functions:
        key = imported.module, imported.name
        kind = module.types[imported.type_index]
        if imported.module in (HOST, WASI) or provided(*key):
            continue
        if key in found:
            if found[key].kind != kind:
                raise ModuleError(f"{title}: the module imports {shown('.'.join(key))} with two types, {found[key].kind} and {kind}: declare it alike in Go")
            continue
        if len(kind.results) > 1 or any(VALUE_TYPES.get(t) not in ("i32", "i64", "f32", "f64") for t in kind.params + kind.results):
            raise ModuleError(f"{title}: the module imports {shown('.'.join(key))}, of a type that a Python function cannot have: {kind}")
        said = declarations.get(key, [])
        fitting = [s for s in said if matches(s, kind)]
        # Two packages may declare it differently.
        same = len({(tuple(p.type for p in s.params), s.result) for s in fitting}) == 1
        found[key] = _Wanted(key, kind, fitting[0] if same else None, _shown(imported.name, said, fitting[0] if same else None, kind))
    return found


def _shown(name: str, said: Sequence[ImportSignature], signature: ImportSignature | None, kind: FuncType) -> str:
    """Describe an import, in Go and in Python."""
    go = " and ".join(shown(f"{s.go} ({s.position})") for s in said)
    if signature is None:
        guessed = from_wasm(name if name.isidentifier() else "function", kind)
        said_of = f"{go or 'a function of the WebAssembly type'} {kind}"
        return said_of if go else f"{said_of}, in Python: {_python(guessed)}"
    return f"{go}, in Python: {_python(signature)}"


def _python(signature: Signature) -> str:
    """Write the signature as the first line of a Python function."""
    name = signature.name if signature.name.isidentifier() else signature.function
    parameters = ", ".join(f"{p.name}: {'str' if p.type == 'string' else python_type(p.type)}" for p in signature.params)
    return f"def {name}({parameters}) -> {python_type(signature.result) if signature.result else None}"


def takes_context(function: Function) -> bool:
    """Whether a handler of guest.Call takes a context after the payload: its second parameter is annotated so."""
    signature = _python_signature(function)
    parameters = [] if signature is None else list(signature.parameters.values())
    return len(parameters) > 1 and "Context" in _meaning(parameters[1].annotation)


def takes_payload(function: Function) -> str | None:
    """Return None if a function can be a handler of guest.Call, otherwise its description for an error message.

    It can if it takes the payload and, if annotated so, the context.
    """
    signature = _python_signature(function)
    if signature is None:
        return None  # built-in functions may have none
    try:
        signature.bind(*(None,) * (2 if takes_context(function) else 1))
    except TypeError:
        return _name(function, str(signature))
    return None


# A Python function.

@dataclass(frozen=True)
class _Slot:
    """A parameter. `meaning`: the types that its annotation names (see _meaning); empty if unknown."""

    name: str
    meaning: frozenset[str]
    required: bool


class _Callee:
    """A Python function and its signature. MisuseError: it cannot be a host function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        inner = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        for candidate in (inner, type(inner).__call__):
            if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
                raise MisuseError(f"{_name(function)} is a coroutine function; {_HINT}")
        signature = _python_signature(function)
        # Built-in functions may have no signature: they get all arguments.
        self.shown = _name(function, str(signature or "(...)"))
        self.slots: list[_Slot] = []
        self.rest: _Slot | None = None if signature is not None else _Slot("args", frozenset(), required=False)
        self.by_keyword: list[str] = []
        self.result = frozenset[str]() if signature is None else _meaning(signature.return_annotation)
        for parameter in signature.parameters.values() if signature is not None else ():
            slot = _Slot(parameter.name, _meaning(parameter.annotation), parameter.default is parameter.empty)
            match parameter.kind:
                case parameter.VAR_POSITIONAL:
                    self.rest = slot
                case parameter.KEYWORD_ONLY:
                    if "Context" in slot.meaning:
                        self.by_keyword.append(slot.name)
                    elif slot.required:
                        raise MisuseError(f"{self.shown} has a parameter that only goes by name, {slot.name!r}: Go gives its arguments in order")
                case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD:
                    self.slots.append(slot)

    def fit(self, want: _Wanted) -> _Fitted:
        """Match the function with an import. MisuseError, without the import's name: they do not match."""
        signature = want.signature or self._guessed(want)
        left = list(signature.params)
        takes: list[tuple[str, bool]] = []  # Go's type ("" for the context), whether a string is passed as bytes
        by_keyword = list(self.by_keyword)
        wrong, gap = [], False
        for slot in self._slots(len(left)):
            if "Context" in slot.meaning:
                # After a parameter that keeps its default, pass the context by keyword.
                by_keyword += [slot.name] if gap else []
                takes += [] if gap else [("", False)]
            elif left:
                parameter = left.pop(0)
                if slot.meaning and not slot.meaning & _TAKES[parameter.type]:
                    wrong.append(f"{slot.name!r} is annotated {_words(slot.meaning)}, and gets {_gets(parameter.type, wasm=want.signature is None)}")
                takes.append((parameter.type, "bytes" in slot.meaning and "str" not in slot.meaning))
            elif slot.required:
                wrong.append(f"{slot.name!r} gets nothing")
            else:
                gap = True
        if left:
            wrong.append(f"nothing takes {', '.join(repr(p.name) for p in left)}")
        if signature.result is not None and self.result and not self.result & _GIVES[signature.result]:
            wrong.append(f"it returns {_words(self.result)}, and must return {describe(signature.result, wasm=want.signature is None)}")
        if wrong:
            raise MisuseError(f"{'; '.join(wrong)}. Given is {self.shown}; wanted is {want.shown}")
        return _Fitted(self.function, takes, by_keyword, signature.result, want.signature is None)

    def _slots(self, parameters: int) -> Iterator[_Slot]:
        """Yield the positional parameters, then *args as often as arguments are left.

        parameters: the number of the import's parameters.
        """
        yield from self.slots
        if self.rest is not None:
            plain = sum("Context" not in slot.meaning for slot in self.slots)
            yield from [replace(self.rest, required=False)] * max(0, parameters - plain)

    def _guessed(self, want: _Wanted) -> Signature:
        """Guess the import's signature from its WebAssembly types and the annotations."""
        plain = from_wasm(want.key[1], want.kind)
        left, params = list(plain.params), []
        for slot in self._slots(len(left)):
            if not left or "Context" in slot.meaning:
                continue
            parameter = left.pop(0)
            if parameter.type == "int32" and slot.meaning & {"str", "bytes"} and left and left[0].type == "int32":
                left.pop(0)
                parameter = Parameter(parameter.name, "string")
            elif parameter.type == "int32" and "bool" in slot.meaning:
                parameter = Parameter(parameter.name, "bool")
            params.append(parameter)
        result = "bool" if plain.result == "int32" and "bool" in self.result else plain.result
        return replace(plain, params=(*params, *left), result=result)


def _python_signature(function: Function) -> inspect.Signature | None:
    """Return the function's signature, or None if it has none.

    Annotations are evaluated where possible, which excludes names that are imported for type checkers only.
    """
    for options in ({"eval_str": True}, _unevaluated()):
        try:
            return inspect.signature(function, **options)
        except Exception:  # annotations may raise anything
            continue
    return None


def _unevaluated() -> dict[str, Any]:
    if sys.version_info < (3, 14):
        return {}
    return {"annotation_format": importlib.import_module("annotationlib").Format.STRING}


def _meaning(annotation: object) -> frozenset[str]:
    """Return the names of the types that an annotation allows; empty if it allows any not in _KNOWN, except Context."""
    parts: Sequence[object] = (annotation,)
    if isinstance(annotation, str):
        parts = [_BY_NAME.get(part.strip()) for part in annotation.split("|")]
        return frozenset(part for part in parts if isinstance(part, str)) if None not in parts else frozenset()
    if isinstance(annotation, typing.NewType):
        return _meaning(annotation.__supertype__)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _meaning(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        meanings = [_meaning(part) for part in typing.get_args(annotation)]
        return frozenset().union(*meanings) if all(meanings) else frozenset()
    if isinstance(annotation, type) and issubclass(annotation, CallContext):
        return frozenset(("Context",))
    known = _KNOWN.get(annotation) if isinstance(annotation, type | None) else None
    return frozenset() if known is None else frozenset((known,))


def _name(function: Function, signature: str = "") -> str:
    """Describe a function, and where it is defined."""
    name = f"{getattr(function, '__qualname__', None) or repr(function)}{signature}"
    place = _place(function, ":")
    return f"{name} ({place})" if place else name


def _place(function: Function, between: str) -> str:
    """Return a function's file and first line, joined by `between`; "" if unknown."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}{between}{code.co_firstlineno}" if code is not None else ""


def _words(meaning: frozenset[str]) -> str:
    return " | ".join(sorted(meaning))


def _gets(go_type: str, *, wasm: bool) -> str:
    return f"{'str, or bytes' if go_type == 'string' else python_type(go_type)} ({type_words(go_type, wasm=wasm)})"


# A Python function that fits.

class _Ended(Exception):
    """The app ended during the call. Its first cause is recorded already."""


class WrongResult(TypeError, ValueError):
    """A Python function has returned a value that the module cannot take. `place`: where the function is defined."""

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message, place)
        self.message, self.place = message, place

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class _Fitted:
    """A Python function, matched with an import.

    takes: for each argument, Go's type ("" for the context), and whether a string is passed as bytes.
    by_keyword: the keyword arguments that get the context.
    result: Go's type; None for no result.
    guessed: only the import's WebAssembly types are known.
    """

    function: Function
    takes: Sequence[tuple[str, bool]]
    by_keyword: Sequence[str]
    result: str | None
    guessed: bool

    @property
    def letters(self) -> str:
        """The types of the raw arguments, in the letters of engine/ffi.py."""
        return "".join(LETTERS[of] for of, _ in self.takes if of)

    def compile(self, name: str, context: CallContext) -> ffi.HostFunction:
        """Make the host function, which converts the raw arguments, calls the function, and checks its result.

        Everything that does not depend on the arguments is decided here, not in each call.
        """
        call = functools.partial(self.function, **dict.fromkeys(self.by_keyword, context)) if self.by_keyword else self.function
        checked = self._checker(name)
        takers = self._takers(context)
        plain = all(of not in ("", "bool", "string") for of, _ in self.takes)  # raw values need no conversion
        away = context.in_python

        def run(*raw: Any) -> Any:
            away.append(None)
            try:
                result = checked(call(*raw) if plain else call(*[take(raw) for take in takers]))
            except BaseException as error:
                raise ffi.Raised(name, error) from error
            finally:
                away.pop()
            if context.ended or context.app_ended():
                raise _Ended
            return result
        return run

    def _takers(self, context: CallContext) -> list[Callable[[tuple[Any, ...]], Any]]:
        takers, at = [], 0
        for of, as_bytes in self.takes:
            takers.append(_taker(of, at, context, as_bytes=as_bytes))
            at += {"": 0, "string": 2}.get(of, 1)
        return takers

    def _checker(self, name: str) -> Callable[[Any], Any]:
        """Return the function that checks a result, and converts it to a raw value. It raises WrongResult."""
        result, where = self.result, _place(self.function, ", line ")

        def check(returned: object) -> None:
            if isinstance(returned, types.CoroutineType):
                returned.close()
                raise WrongResult(f"{name} returned a coroutine; {_HINT}", where)
        if result is None:
            return check
        convert = converter(result)
        unsigned = converter("u" + result) if self.guessed and result in ("int32", "int64") else convert
        wanted = f"an int of {result[3:]} bits ({FIELDS[result][0]})" if unsigned is not convert else describe(result, wasm=self.guessed)

        def raw(returned: Any) -> Any:
            try:
                # If only the WebAssembly type is known, the number may be signed or unsigned.
                return convert(returned) if convert is unsigned or returned < 0 else unsigned(returned)
            except (TypeError, ValueError, OverflowError):
                check(returned)
                raise WrongResult(f"{name} returned {cut(returned)}; it must return {wanted}", where) from None
        return raw


def _taker(of: str, at: int, context: CallContext, *, as_bytes: bool) -> Callable[[tuple[Any, ...]], Any]:
    def read(raw: tuple[Any, ...]) -> bytes:
        if raw[at + 1] > LARGEST_TRANSFER:
            raise MemoryAccessError(f"a string of {raw[at + 1]:,} bytes; at most {LARGEST_TRANSFER:,}")
        # Copy before looking at it. Do not trust the address: outside the module's memory it is an error.
        return context.memory.read(raw[at], raw[at + 1])
    match of:
        case "":
            return lambda raw: context
        case "string":
            return read if as_bytes else lambda raw: read(raw).decode(errors="replace")
        case "bool":
            return lambda raw: raw[at] != 0
        case _:
            return lambda raw: raw[at]


