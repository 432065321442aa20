"""What a program offers to its modules, as dicts or a `Host`: `open(..., host=..., handlers=..., imports=...)`."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gothreads.bridge.handlers import Handler, checked
from gothreads.errors import MisuseError
from gothreads.text import cut, words
from gothreads.wasm.host_calls import HOST, WASI

F = TypeVar("F", bound=Callable[..., Any])

#: {module: {name: function}}
Functions = Mapping[str, Mapping[str, Callable[..., Any]]]


class Host:
    """A collection of functions that modules may call, filled by decorators. Several apps may share one.

        host = gothreads.Host()

        @host.function("env")            # //go:wasmimport env log
        def log(level: int, text: str) -> None: ...

        @host.handler()                  # guest.Call("price", payload)
        async def price(payload: bytes) -> bytes: ...

        @host.implements("prices")       # //gothreads:import, above: var prices Prices
        class Prices: ...

        gothreads.open("app.wasm", host=host)

    An app gets the functions that are registered when it is opened.
    """

    def __init__(self) -> None:
        self._functions: dict[str, dict[str, Callable[..., Any]]] = {}
        self._handlers: dict[str, Handler] = {}
        self._imports: dict[str, Any] = {}

    def __repr__(self) -> str:
        functions = [f"{module}.{name}" for module, functions in self._functions.items() for name in functions]
        return (f"<gothreads.Host functions: {', '.join(functions) or 'none'}; "
                f"handlers: {', '.join(self._handlers) or 'none'}"
                f"{'; imports: ' if self._imports else ''}{', '.join(self._imports)}>")

    @property
    def functions(self) -> Functions:
        return self._functions

    def function(self, module: str, name: str | None = None) -> Callable[[F], F]:
        """Offer the decorated function as `//go:wasmimport MODULE NAME`. NAME is the function's own name by default.

        MisuseError: the name is taken, or the function has none.
        """
        if not isinstance(module, str):
            raise MisuseError('give the module that Go imports from: @host.function("env")')

        def add(function: F) -> F:
            named = name or getattr(function, "__name__", None)
            if named is None:
                raise MisuseError(f'{function!r} has no name of its own: @host.function({module!r}, name="NAME")')
            functions = self._functions.setdefault(module, {})
            if named in functions:
                raise MisuseError(f"there is a host function {module}.{named} already: {functions[named]!r}")
            functions[named] = function
            return function
        return add

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return self._handlers

    def handler(self, name: str | None = None) -> Callable[[F], F]:
        """Register the decorated function as the handler of guest.Call(NAME); its own name by default.

        See `gothreads.open`. MisuseError: the name is taken, or the function has none.
        """
        if callable(name):
            raise MisuseError("write @host.handler(), with the parentheses")

        def add(function: F) -> F:
            named = name or getattr(function, "__name__", None)
            if named is None:
                raise MisuseError(f'{function!r} has no name of its own: @host.handler("NAME")')
            if named in self._handlers:
                raise MisuseError(f"there is a handler {named} already: {self._handlers[named]!r}")
            self._handlers[named] = function
            return function
        return add

    @property
    def imports(self) -> Mapping[str, Any]:
        return self._imports

    def implements(self, name: str) -> Callable[[F], F]:
        """Have the decorated class or function implement the variable of Go's with `//gothreads:import` of that name.

        See `imports` of `gothreads.open`. MisuseError: the name is taken.
        """
        if not isinstance(name, str):
            raise MisuseError('give the name of the import in Python: @host.implements("prices")')

        def add(implementation: F) -> F:
            if name in self._imports:
                raise MisuseError(f"there is an implementation of {name} already: {self._imports[name]!r}")
            self._imports[name] = implementation
            return implementation
        return add


def load_host(path: str) -> Host:
    """Run a Python file, with its folder on sys.path, and return its `host`, a Host. MisuseError if that fails."""
    if not Path(path).is_file():
        raise MisuseError(f"there is no Python file {path}")
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = runpy.run_path(path, run_name=Path(path).stem).get("host")
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise MisuseError(f"{path}{f', line {line}' if line else ''}: {words(error)}") from error
    if not isinstance(found, Host):
        raise MisuseError(f"{path} has no `host = gothreads.Host()`, with the functions that the module may call")
    return found


def given_handlers(host: Host | Functions | None, handlers: Mapping[str, Handler] | None) -> Mapping[str, Handler]:
    """Return the handlers of both arguments of `open`. MisuseError: invalid ones, or a name in both."""
    if handlers is not None and not isinstance(handlers, Mapping):
        raise MisuseError(f'handlers must be a dict such as {{"price": function}}, not {cut(handlers)}')
    own = host.handlers if isinstance(host, Host) else {}
    twice = sorted(own.keys() & (handlers or {}).keys())
    if twice:
        raise MisuseError(f"handlers and host both have: {', '.join(twice)}")
    return checked({**own, **(handlers or {})})


def given_imports(host: Host | Functions | None, imports: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the imports of both arguments of `open`. MisuseError: invalid ones, or a name in both."""
    if imports is not None and (not isinstance(imports, Mapping) or not all(isinstance(name, str) for name in imports)):
        raise MisuseError(f'imports must be a dict such as {{"prices": Prices()}}, not {cut(imports)}')
    own = host.imports if isinstance(host, Host) else {}
    twice = sorted(own.keys() & (imports or {}).keys())
    if twice:
        raise MisuseError(f"imports and host both have: {', '.join(twice)}")
    return {**own, **(imports or {})}


def given_functions(host: Host | Functions | None) -> dict[tuple[str, str], Callable[..., Any]]:
    """Return the functions of `open`'s argument `host`, by (module, name). MisuseError: an invalid one."""
    modules = host.functions if isinstance(host, Host) else {} if host is None else host
    if not isinstance(modules, Mapping) or not all(isinstance(functions, Mapping) for functions in modules.values()):
        raise MisuseError(f'host must be a gothreads.Host, or a dict such as {{"env": {{"log": function}}}}, not '
                          f'{cut(host)}')
    given = {(module, name): function for module, functions in modules.items() for name, function in functions.items()}
    for (module, name), function in given.items():
        if not isinstance(module, str) or not isinstance(name, str):
            raise MisuseError(f"host must have names that are str, not {cut(module)}, {cut(name)}")
        if not callable(function):
            raise MisuseError(f"host function {module}.{name} must be callable, not {cut(function)}")
        if module in (HOST, WASI):
            raise MisuseError(f"host function {module}.{name} cannot be given: the module {cut(module)} is gothreads' "
                              f"own. Import from another, such as env")
    return given
