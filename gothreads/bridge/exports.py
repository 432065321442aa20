"""Exported functions as Python sees them: their parameters, the checking of arguments, calls.

A wrong argument raises before any Go runs. The types are in bridge/go_types.py.
"""

from __future__ import annotations

import builtins
import inspect
import keyword
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Self

from gothreads.bridge.buffers import Buffers
from gothreads.bridge.go_types import LETTERS, converter, describe, parse, python_type
from gothreads.engine import ffi
from gothreads.errors import (
    ArgumentError,
    MisuseError,
    NotCallable,
    UnknownExport,
    drop_frames,
    unknown,
)
from gothreads.text import closest, cut, shown
from gothreads.wasm.signature import Parameter, Signature

_ANNOTATIONS = {"bool": bool, "float": float, "int": int, "str | bytes": str | bytes}
#: The keyword arguments that any call takes besides its own arguments.
CALL_OPTIONS = frozenset(("timeout", "on_timeout"))


class Export:
    """The signature of one exported function, prepared for calls."""

    #: Whether messages name types as WebAssembly does, not as Go does.
    wasm_types = False
    #: Whether arguments may be given by name.
    has_names = True

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.name = signature.name
        self.shown = shown(signature.name)
        #: The parameters' names in Python.
        self.names = _python_names(signature.params)
        self._converters = [(parameter, converter(parameter.type)) for parameter in signature.params]
        self.has_strings = any(parameter.type == "string" for parameter in signature.params)
        #: The types of the parameters and of the result, as ffi.function takes them.
        self.params = "".join(LETTERS[parameter.type] for parameter in signature.params)
        self.result = "" if signature.result is None else LETTERS[signature.result]

    def bind(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Put arguments that are given by name in their places. ArgumentError: a wrong name, or one is missing."""
        if not named:
            return args
        if not self.has_names:
            raise ArgumentError(f"{self.shown} takes its arguments in order, not by name ({', '.join(named)}): "
                                f"{self.signature.declaration}")
        if len(args) > len(self.names):
            raise ArgumentError(self._takes(len(args) + len(named)))
        bound = dict(zip(self.names, args, strict=False))
        for name, value in named.items():
            if name not in self.names:
                raise ArgumentError(f"{self.shown} has no parameter {cut(name)}; it has: {', '.join(self.names)}: "
                                    f"{self.signature.declaration}")
            if name in bound:
                raise ArgumentError(f"{self.shown}: argument {name!r} is given twice, in order and by name: "
                                    f"{self.signature.declaration}")
            bound[name] = value
        if missing := [repr(name) for name in self.names if name not in bound]:
            raise ArgumentError(f"{self.shown}: no argument is given for {', '.join(missing)}: "
                                f"{self.signature.declaration}")
        return tuple(bound[name] for name in self.names)

    def convert(self, args: tuple[Any, ...]) -> list[Any]:
        """Convert each argument to its raw value; strings to bytes. ArgumentError: wrong type, range or number."""
        if len(args) != len(self._converters):
            raise ArgumentError(self._takes(len(args)))
        converted = []
        for (parameter, convert), value in zip(self._converters, args, strict=True):
            try:
                converted.append(convert(value))
            except (TypeError, ValueError, OverflowError) as error:
                raise ArgumentError(f"{self.shown}: argument {parameter.name!r} must be "
                                    f"{self._describe(parameter.type)}: {error}") from None
        return converted

    def parse(self, texts: tuple[str, ...]) -> tuple[Any, ...]:
        """Parse arguments from the command line. ArgumentError: a text is not of its parameter's type."""
        if len(texts) != len(self._converters):
            return texts  # convert reports the error
        return tuple(self.parse_one(place, text) for place, text in enumerate(texts))

    def parse_one(self, place: int, text: str) -> Any:
        parameter = self.signature.params[place]
        try:
            return parse(parameter.type, text)
        except (ValueError, KeyError):
            expected = "true or false (Go: bool)" if parameter.type == "bool" else self._describe(parameter.type)
            raise ArgumentError(f"{self.shown}: argument {parameter.name!r} must be {expected}: "
                                f"got {cut(text)}") from None

    def _takes(self, given: int) -> str:
        count = len(self._converters)
        renamed = [name for name, parameter in zip(self.names, self.signature.params, strict=True)
                   if name != parameter.name]
        return (f"{self.shown} takes {count} argument{'s' * (count != 1)}, {given} given: {self.signature.declaration}"
                + (f" (by name: {', '.join(renamed)})" if renamed else ""))

    def _describe(self, go_type: str) -> str:
        return describe(go_type, wasm=self.wasm_types)

    def packed(self) -> Export:
        """Return the same export, returning the bytes that its result refers to. NotCallable: it returns no bytes."""
        raise NotCallable(f"{self.shown} returns no bytes: only exports of other languages do. In Go, register a "
                          "handler: guest.Handle")

    def call(self, function: ffi.Function, converted: list[Any], slot: Buffers) -> Any:
        """Copy strings into the slot, call the function, and return its result. Raises ffi.Trapped."""
        if not self.has_strings:
            return function(*converted)
        address = slot.put(b"".join(raw for raw in converted if isinstance(raw, bytes)))
        values: list[Any] = []
        for raw in converted:
            if isinstance(raw, bytes):
                values += [address, len(raw)]
                address += len(raw)
            else:
                values.append(raw)
        return function(*values)

    def python_signature(self) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if self.has_names else inspect.Parameter.POSITIONAL_ONLY
        parameters = [inspect.Parameter(name, kind, annotation=_ANNOTATIONS[python_type(parameter.type)])
                      for name, parameter in zip(self.names, self.signature.params, strict=True)]
        result = _ANNOTATIONS[python_type(self.signature.result)] if self.signature.result else None
        return inspect.Signature(parameters, return_annotation=result)


def _python_names(params: Sequence[Parameter]) -> tuple[str, ...]:
    """The parameters' names in Python: Go's, with an underscore if Python or a call's options have the name already.

    They are spelt as Python's parser spells them. For names that cannot be used it is arg0_, arg1_…
    """
    names: dict[str, None] = {}
    for index, parameter in enumerate(params):
        name = unicodedata.normalize("NFKC", parameter.name)
        if name in CALL_OPTIONS or keyword.iskeyword(name):
            name += "_"
        if name in names or not name.isidentifier():
            name = f"arg{index}_"
        while name in names:
            name += "_"
        names[name] = None
    return tuple(names)


class Function:
    """A callable export: `app.exports.add(2, 3)`, or `app.exports.add(a=2, b=3)`."""

    def __init__(self, export: Export, call: Callable[..., Any]) -> None:
        # `call` gets the export, the converted arguments, and the keyword arguments timeout and on_timeout. (This is no
        # docstring, because IPython would show it for an export.)
        self._export, self._call = export, call
        self.__name__ = self.__qualname__ = export.name
        self.__doc__ = f"{export.signature.declaration}\n\n{export.signature.doc}".rstrip()
        self.__signature__ = export.python_signature()
        #: The signature, from the Go source if that is known.
        self.signature = export.signature

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        """Call the export. `timeout` (seconds) and `on_timeout` are as in App.submit. ArgumentError.

        Arguments may be given by the names of Go's parameters. One that Python has taken gets an underscore: `from_`,
        `timeout_`.
        """
        try:
            if named:
                args, named = self._bound(args, named)
            return self._call(self._export, self._export.convert(args), **named)
        except BaseException as error:
            drop_frames(error)
            raise

    def _bound(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The export's arguments in order, and the call's options. ArgumentError."""
        own = {name: value for name, value in named.items() if name not in CALL_OPTIONS}
        return self._export.bind(args, own), {name: named[name] for name in CALL_OPTIONS & named.keys()}

    def bytes(self, /, *args: Any, **named: Any) -> builtins.bytes:
        """Call an export that returns bytes as address << 32 | length, in a module that is not Go's.

        Returns a copy, and frees the module's bytes. NotCallable: the export does not return an i64, or the module
        exports no malloc and free.
        """
        packed = self._export.packed()
        args, named = self._bound(args, named)
        result: builtins.bytes = self._call(packed, packed.convert(args), **named)
        return result

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """Return itself: it has no use for a `self`. This makes it a function to help(), which shows its signature."""
        return self

    def __reduce__(self) -> NoReturn:
        raise MisuseError(f"the export {self._export.shown} cannot be pickled. Pickle the app instead, which opens the "
                          f"module again, and call the export there: app.exports[{self.__name__!r}]")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<export {self._export.signature}>"


class Exports:
    """The functions that a module exports, as attributes or as `exports["name"]`. Iterating yields the names."""

    def __init__(self, functions: Mapping[str, Function], uncallable: Mapping[str, str] | None = None, *,
                 has_handlers: bool = False) -> None:
        """`uncallable`: the names of the other exports, and why each cannot be called.

        has_handlers: whether the module can have handlers, which are not called here.
        """
        self._functions, self._uncallable = dict(functions), dict(uncallable or {})
        self._typed: Sequence[str] = ()
        self._has_handlers = has_handlers

    def __getattr__(self, name: str) -> Function:
        if name.startswith("__") or name in ("_functions", "_uncallable", "_has_handlers", "_typed"):
            raise AttributeError(name)
        try:
            function = self._functions[name]
        except KeyError:
            raise self._missing(name) from None
        self.__dict__[name] = function  # later look-ups do not get here
        return function

    def __getitem__(self, name: str) -> Function:
        try:
            return self._functions[name]
        except (KeyError, TypeError):  # TypeError: the name is not even hashable
            raise self._missing(name) from None

    def _missing(self, name: str, request: str = "request") -> UnknownExport:
        """Why there is no such export. request: the method of App that calls a handler instead."""
        known = sorted({*self._functions, *self._typed})
        if not isinstance(name, str) and getattr(name, "__name__", None) in known:
            return UnknownExport(f"functions go by their names here: {name.__name__!r}, not {name!r}", known)
        if name in self._typed:
            return UnknownExport(f"{name} is a typed function: app.functions.{name}(…)", known)
        why = self._uncallable.get(name) if isinstance(name, str) else None
        if why is None:
            error = unknown("export", name, known)
            if self._has_handlers and closest(str(name), known) is None:
                error = UnknownExport(error.message, known, f". A handler is called with app.{request}({cut(name)}, …)")
            return error
        return UnknownExport(f"the module's export {shown(name)} cannot be called: {why}", known)

    def note_typed(self, names: Iterable[str]) -> None:
        """Let errors know the module's typed functions, which might be meant."""
        self._typed = tuple(names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._functions

    def __dir__(self) -> list[str]:
        return sorted({*(name for name in super().__dir__() if name.startswith("__")), *self._functions})

    def __repr__(self) -> str:
        return f"<exports: {', '.join(name if name.isprintable() else repr(name) for name in self._functions)}>"
