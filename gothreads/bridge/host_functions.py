"""Host functions: Python functions that a module imports.

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
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gothreads.bridge.context import CallContext
from gothreads.bridge.go_types import FIELDS, LETTERS, converter, describe, from_wasm, python_type, type_words
from gothreads.bridge.imported_functions import ImportedFunction
from gothreads.bridge.python_signatures import (
    Function,
    allowed_types,
    definition_place,
    describe_function,
    signature_of,
)
from gothreads.engine import ffi
from gothreads.errors import MemoryAccessError, MisuseError
from gothreads.text import cut
from gothreads.wasi.process import LARGEST_TRANSFER
from gothreads.wasm.signature import Parameter, Signature

_INTS = ("int32", "uint32", "int64", "uint64", "uintptr", "unsafe.Pointer", "pointer")
# Go type -> the annotations that a parameter, and a result, may have.
_PARAMETERS = {"bool": {"bool", "int"}, "string": {"str", "bytes"}, "float32": {"float"}, "float64": {"float"},
               **{kind: {"int", "float"} for kind in _INTS}}
_RESULTS = {"bool": {"bool"}, "float32": {"float", "int"}, "float64": {"float", "int"},
            **{kind: {"int"} for kind in _INTS}}
_NO_COROUTINE = ("the module cannot wait for a coroutine in the middle of a host function. Use an ordinary function, "
                 "or call it from Go as a handler (guest.Call), which may be a coroutine")


@dataclass(frozen=True)
class _PythonParameter:
    """A parameter. `types`: the names of the types that its annotation allows; empty if unknown."""

    name: str
    types: frozenset[str]
    required: bool


class PythonFunction:
    """A Python function and its signature. MisuseError: it cannot be a host function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        inner = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        for candidate in (inner, type(inner).__call__):
            if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
                raise MisuseError(f"{describe_function(function)} is a coroutine function; {_NO_COROUTINE}")
        signature = signature_of(function)
        # Built-in functions may have no signature: they get all arguments.
        self._description = describe_function(function, str(signature or "(...)"))
        self._positional: list[_PythonParameter] = []
        self._variadic = None if signature is not None else _PythonParameter("args", frozenset(), required=False)
        self._context_keywords: list[str] = []
        self._result = frozenset[str]() if signature is None else allowed_types(signature.return_annotation)
        for parameter in signature.parameters.values() if signature is not None else ():
            own = _PythonParameter(parameter.name, allowed_types(parameter.annotation),
                                   parameter.default is parameter.empty)
            match parameter.kind:
                case parameter.VAR_POSITIONAL:
                    self._variadic = own
                case parameter.KEYWORD_ONLY:
                    if "Context" in own.types:
                        self._context_keywords.append(own.name)
                    elif own.required:
                        raise MisuseError(f"{self._description} has a keyword-only parameter, {own.name!r}: Go passes "
                                          "its arguments by position")
                case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD:
                    self._positional.append(own)

    def fit(self, imported: ImportedFunction) -> HostFunction:
        """Match the function with an import. MisuseError, without the import's name: they do not match."""
        guessed = imported.signature is None
        signature = imported.signature or self._guess(imported)
        left = list(signature.params)
        arguments: list[_Argument] = []
        context_keywords = list(self._context_keywords)
        wrong, gap = [], False
        for own in self._parameters(len(left)):
            if "Context" in own.types:
                # After a parameter that keeps its default, pass the context by keyword.
                context_keywords += [own.name] if gap else []
                arguments += [] if gap else [_Argument("")]
            elif left:
                parameter = left.pop(0)
                if own.types and not own.types & _PARAMETERS[parameter.type]:
                    wrong.append(f"{own.name!r} is annotated {_words(own.types)}, and gets "
                                 f"{_python_and_go(parameter.type, wasm=guessed)}")
                arguments.append(_Argument(parameter.type, as_bytes="bytes" in own.types and "str" not in own.types))
            elif own.required:
                wrong.append(f"{own.name!r} gets no argument")
            else:
                gap = True
        if left:
            wrong.append(f"no parameter takes {', '.join(repr(p.name) for p in left)}")
        if signature.result is not None and self._result and not self._result & _RESULTS[signature.result]:
            wrong.append(f"it returns {_words(self._result)}, and must return "
                         f"{describe(signature.result, wasm=guessed)}")
        if wrong:
            raise MisuseError(f"{'; '.join(wrong)}. The function is {self._description}; "
                              f"the module imports {imported.description}")
        return HostFunction(self._function, arguments, context_keywords, signature.result, guessed)

    def _parameters(self, count: int) -> Iterator[_PythonParameter]:
        """Yield the positional parameters, then *args as often as arguments are left.

        count: the number of the import's parameters.
        """
        yield from self._positional
        if self._variadic is not None:
            plain = sum("Context" not in own.types for own in self._positional)
            yield from [replace(self._variadic, required=False)] * max(0, count - plain)

    def _guess(self, imported: ImportedFunction) -> Signature:
        """Guess the import's signature from its WebAssembly types and the annotations."""
        plain = from_wasm(imported.key[1], imported.kind)
        left, params = list(plain.params), []
        for own in self._parameters(len(left)):
            if not left or "Context" in own.types:
                continue
            parameter = left.pop(0)
            if parameter.type == "int32" and own.types & {"str", "bytes"} and left and left[0].type == "int32":
                left.pop(0)
                parameter = Parameter(parameter.name, "string")
            elif parameter.type == "int32" and "bool" in own.types:
                parameter = Parameter(parameter.name, "bool")
            params.append(parameter)
        result = "bool" if plain.result == "int32" and "bool" in self._result else plain.result
        return replace(plain, params=(*params, *left), result=result)


def _words(types: frozenset[str]) -> str:
    return " | ".join(sorted(types))


def _python_and_go(go_type: str, *, wasm: bool) -> str:
    return f"{'str, or bytes' if go_type == 'string' else python_type(go_type)} ({type_words(go_type, wasm=wasm)})"


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
class _Argument:
    """An argument of the Python function. `go_type`: "" for the context. `as_bytes`: a string is passed as bytes."""

    go_type: str
    as_bytes: bool = False


@dataclass(frozen=True)
class HostFunction:
    """A Python function, matched with an import.

    context_keywords: the keyword arguments that get the context.
    result: Go's type; None for no result.
    guessed: only the import's WebAssembly types are known.
    """

    function: Function
    arguments: Sequence[_Argument]
    context_keywords: Sequence[str]
    result: str | None
    guessed: bool

    @property
    def letters(self) -> str:
        """The types of the raw arguments, in the letters of engine/ffi.py."""
        return "".join(LETTERS[argument.go_type] for argument in self.arguments if argument.go_type)

    def compile(self, name: str, context: CallContext) -> ffi.HostFunction:
        """Make the host function, which converts the raw arguments, calls the function, and checks its result.

        Everything that does not depend on the arguments is decided here, not in each call.
        """
        keywords = dict.fromkeys(self.context_keywords, context)
        call = functools.partial(self.function, **keywords) if keywords else self.function
        checked = self._checker(name)
        readers = self._readers(context)
        plain = all(argument.go_type not in ("", "bool", "string") for argument in self.arguments)  # no conversion
        in_python = context.in_python
        enter, leave = in_python.append, in_python.pop

        def run(*raw: Any) -> Any:
            enter(None)
            try:
                result = checked(call(*raw) if plain else call(*[read(raw) for read in readers]))
            except BaseException as error:
                raise ffi.Raised(name, error) from error
            finally:
                leave()
            if context.ended or in_python.app_ended:
                raise _Ended
            return result
        return run

    def _readers(self, context: CallContext) -> list[Callable[[tuple[Any, ...]], Any]]:
        readers, index = [], 0
        for argument in self.arguments:
            readers.append(_reader(argument, index, context))
            index += {"": 0, "string": 2}.get(argument.go_type, 1)
        return readers

    def _checker(self, name: str) -> Callable[[Any], Any]:
        """Return the function that checks a result, and converts it to a raw value. It raises WrongResult."""
        result, place = self.result, definition_place(self.function, ", line ")

        def check(returned: object) -> None:
            if isinstance(returned, types.CoroutineType):
                returned.close()
                raise WrongResult(f"{name} returned a coroutine; {_NO_COROUTINE}", place)
        if result is None:
            return check
        convert = converter(result)
        unsigned = converter("u" + result) if self.guessed and result in ("int32", "int64") else convert
        expected = (describe(result, wasm=self.guessed) if unsigned is convert
                    else f"an int of {result[3:]} bits ({FIELDS[result][0]})")

        def raw(returned: Any) -> Any:
            try:
                # If only the WebAssembly type is known, the number may be signed or unsigned.
                return convert(returned) if convert is unsigned or returned < 0 else unsigned(returned)
            except (TypeError, ValueError, OverflowError):
                check(returned)
                raise WrongResult(f"{name} returned {cut(returned)}; it must return {expected}", place) from None
        return raw


def _reader(argument: _Argument, index: int, context: CallContext) -> Callable[[tuple[Any, ...]], Any]:
    """The function that reads an argument from the raw values, of which it is number `index`."""
    def read(raw: tuple[Any, ...]) -> bytes:
        if raw[index + 1] > LARGEST_TRANSFER:
            raise MemoryAccessError(f"a string of {raw[index + 1]:,} bytes; at most {LARGEST_TRANSFER:,}")
        # Copy before looking at it. Do not trust the address: outside the module's memory it is an error.
        return context.memory.read(raw[index], raw[index + 1])
    match argument.go_type:
        case "":
            return lambda raw: context
        case "string":
            return read if argument.as_bytes else lambda raw: read(raw).decode(errors="replace")
        case "bool":
            return lambda raw: raw[index] != 0
        case _:
            return lambda raw: raw[index]
