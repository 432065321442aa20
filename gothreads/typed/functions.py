"""Typed functions as Python sees them: `app.fit(x, y, Options(degree=3), timeout=2)`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import ModuleType
from typing import Any, Protocol

from gothreads.bridge.buffers import Parts, Refused
from gothreads.errors import ArgumentError
from gothreads.text import cut, shown
from gothreads.typed.classes import Classes, classes_of
from gothreads.typed.names import NAMES
from gothreads.typed.namespace import Functions
from gothreads.typed.schema import FunctionSchema, Type
from gothreads.typed.values import ArgumentEncoder, ErrorDecoder, ResultDecoder

#: The keyword arguments of every call, besides its own.
OPTIONS = frozenset(("timeout", "on_timeout"))
#: The handlers of typed functions have their names after this (build/goroot/gothreads/guest/typed.go).
_PREFIX = "gothreads:"

Message = bytes | Parts


class Caller(Protocol):
    """What calls the handlers of typed functions."""

    def call(self, handler: str, message: Message) -> Message:
        """Call a handler on this thread, and return its reply. Raises Refused."""

    def submit(self, handler: str, message: Message, read: Callable[[Callable[[], Message]], Any],
               options: Mapping[str, Any]) -> Future[Any]:
        """Call a handler on another thread, which gives `read` the function that calls, for the future's result.

        options: timeout, on_timeout.
        """

    def wait(self, handler: str, message: Message, read: Callable[[Callable[[], Message]], Any],
             options: Mapping[str, Any]) -> Any:
        """The same, and wait for the result."""


def functions_of(description: Mapping[str, Any], caller: Caller,
                 package: ModuleType | None = None) -> tuple[Functions, ModuleType]:
    """The typed functions of a module, and its types. ModuleError: the description is malformed.

    package: as for classes_of.
    """
    classes = classes_of(description, package)
    errors = ErrorDecoder(classes)
    made = {schema.name: TypedFunction(schema, classes, errors, caller) for schema in classes.schema.functions}
    return Functions(made), classes.module


class TypedFunction:
    """A function that Go exports with //gothreads:export. Any thread may call it."""

    def __init__(self, schema: FunctionSchema, classes: Classes, errors: ErrorDecoder, caller: Caller) -> None:
        self._schema, self._caller, self._errors = schema, caller, errors
        self._handler = _PREFIX + schema.name
        self._names = [param.name for param in schema.params]
        #: How many arguments are passed on as they are; -1: they are gathered first.
        self._count = -1 if schema.variadic else len(schema.params)
        self._arguments, self._results = ArgumentEncoder(schema), ResultDecoder(schema, classes)
        self.__name__ = self.__qualname__ = schema.name
        self.__module__ = classes.module.__name__
        self.__doc__ = f"{schema.doc}\n{shown(schema.go)}".strip()
        self.__signature__ = _signature(schema)

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        """Call the function. `timeout` (seconds) and `on_timeout` are as for App.request: the context is cancelled.

        ArgumentError: an argument is not of its type; the function has not run. GoError: it returned an error.
        """
        options: dict[str, Any] = {}
        if named or len(args) != self._count:
            args, options = self.bind(args, named)
        message = self._arguments.encode(args)
        if options:
            return self._caller.wait(self._handler, message, self._read, options)
        try:
            reply = self._caller.call(self._handler, message)
        except Refused as refused:
            raise self._errors.refused(self.__name__, refused) from None
        return self._results.decode(reply)

    def submit(self, /, *args: Any, **named: Any) -> Future[Any]:
        """Call the function on one of the app's threads. The arguments' form is checked now."""
        args, options = self.bind(args, named)
        return self._caller.submit(self._handler, self._arguments.encode(args), self._read, options)

    async def call_async(self, /, *args: Any, **named: Any) -> Any:
        """Call the function without blocking the event loop. Cancelling this acts like a timeout."""
        return await asyncio.wrap_future(self.submit(*args, **named))

    def _read(self, call: Callable[[], Message]) -> Any:
        try:
            reply = call()
        except Refused as refused:
            raise self._errors.refused(self.__name__, refused) from None
        return self._results.decode(reply)

    def bind(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in order, and the call's options. ArgumentError: one is missing, or too many."""
        options = {name: named[name] for name in OPTIONS & named.keys()}
        fixed = self._names[:-1] if self._schema.variadic else self._names
        if len(args) > len(fixed) and not self._schema.variadic:
            raise self._wrong(f"takes {len(fixed)} argument{'s' * (len(fixed) != 1)}, {len(args)} given")
        bound = dict(zip(fixed, args, strict=False))
        for name, value in named.items():
            if name in OPTIONS:
                continue
            if name not in fixed:
                raise self._wrong(f"has no parameter {cut(name)}")
            if name in bound:
                raise self._wrong(f"has two values for {name!r}, in order and by name")
            bound[name] = value
        if missing := [repr(name) for name in fixed if name not in bound]:
            raise self._wrong(f"has no value for {', '.join(missing)}")
        values = [bound[name] for name in fixed]
        if self._schema.variadic:
            rest = args[len(fixed):]
            values.append(bytes(rest) if self._schema.params[-1].type.shape == "bytes" else list(rest))
        return tuple(values), options

    def _wrong(self, why: str) -> ArgumentError:
        return ArgumentError(f"{self.__name__} {why}: {self.__name__}{self.__signature__}")

    def __repr__(self) -> str:
        return f"<Go function {self.__name__}{self.__signature__}>"


def _signature(schema: FunctionSchema) -> inspect.Signature:
    parameters = [inspect.Parameter(param.name, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                    annotation=NAMES.of(param.type)) for param in schema.params]
    if schema.variadic:
        parameters[-1] = inspect.Parameter(parameters[-1].name, inspect.Parameter.VAR_POSITIONAL,
                                           annotation=_item(schema.params[-1].type))
    return inspect.Signature(parameters, return_annotation=NAMES.result(schema.results))


def _item(kind: Type) -> str:
    """The annotation of an item of a slice."""
    match kind.shape:
        case "bytes":
            return "int"
        case "numbers":
            return "float" if kind.name.startswith("float") else "int"
        case _:
            return NAMES.of(kind.of[0])
