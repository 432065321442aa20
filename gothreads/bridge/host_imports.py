"""The host functions of an app: Python functions, checked against the module's imports before it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gothreads.bridge.context import CallContext
from gothreads.bridge.go_types import LETTERS
from gothreads.bridge.host_functions import HostFunction, PythonFunction
from gothreads.bridge.imported_functions import ImportedFunction, Key, imported_functions
from gothreads.bridge.python_signatures import Function
from gothreads.engine import ffi
from gothreads.engine.function_types import wasmtime_type
from gothreads.errors import MisuseError, ModuleError, listed
from gothreads.text import shown
from gothreads.wasm.binary import Module
from gothreads.wasm.origins import made_for
from gothreads.wasm.signature import ImportSignature

#: The most lines that one error lists.
_MOST_LISTED = 100


class HostImports:
    """The host functions of one app, checked. MisuseError lists all mistakes; ModuleError: only missing functions."""

    def __init__(self, title: str, module: Module, declared: Sequence[ImportSignature], given: Mapping[Key, Function],
                 provided: Callable[[str, str], bool]) -> None:
        """Check the given functions against the module's imports.

        title: the module's name in messages.
        provided: whether an import (module, name) is provided by something else.
        """
        imported = imported_functions(title, module, declared, provided)
        self._functions: dict[Key, tuple[ImportedFunction, HostFunction]] = {}
        missing, wrong = [], []
        for key, function in imported.items():
            if key not in given:
                missing.append(f"{function.name} is missing: {function.description}")
                continue
            try:
                self._functions[key] = function, PythonFunction(given[key]).fit(function)
            except MisuseError as error:
                wrong.append(f"{function.name}: {error}")
        unused = {(s.module, s.name) for s in declared}  # Go's linker drops the imports that nothing calls
        if extra := [".".join(key) for key in given if key not in imported and key not in unused]:
            are, them = ("are", "them") if len(extra) > 1 else ("is", "it")
            names = listed(sorted(map(".".join, imported))) or "nothing"
            wrong.append(f"{listed(extra)} {are} given, but the module does not import {them}; it imports: {names}")
        hint = _how_to_give(next(key for key in imported if key not in given)) if missing else None
        if wrong:
            raise MisuseError(_lines(f"{title}: the host functions do not match the module's imports:", wrong + missing,
                                     hint))
        if missing:
            if (origin := made_for(module)) is not None:
                raise ModuleError(f"{title}: the module was built for {origin}")
            raise ModuleError(_lines(f"{title}: the module imports functions that are not provided:", missing, hint))

    def has(self, module: str, name: str) -> bool:
        return (module, name) in self._functions

    def define(self, functions: ffi.HostFunctions, context: CallContext) -> None:
        """Define the functions in a linker, for instances that use the context's memory."""
        for (module, name), (imported, function) in self._functions.items():
            functions.define(module, name, wasmtime_type(imported.kind), params=function.letters,
                             result=LETTERS[function.result] if function.result else "",
                             implementation=function.compile(imported.name, context), own=False)


def _how_to_give(missing: Key) -> str:
    module, name = map(shown, missing)
    return (f'Functions come from Python: gothreads.open(..., host={{"{module}": {{"{name}": function}}}}); '
            "on the command line: --python FILE")


def _lines(head: str, items: Sequence[str], hint: str | None) -> str:
    left = [f"… and {len(items) - _MOST_LISTED:,} more"] if len(items) > _MOST_LISTED else []
    return "\n  ".join([head, *items[:_MOST_LISTED], *left, *([hint] if hint else [])])
