"""The namespace of typed functions. It needs no msgspec, so modules without typed functions have it, too."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from gothreads.errors import NotCallable, UnknownExport, unknown
from gothreads.typed.caller import Caller


class Functions:
    """The typed functions of a module, as attributes or as `functions["name"]`. Iterating yields the names.

    `fit_async` is the coroutine function of `fit`, unless Go exports that name.
    """

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self._functions = dict(functions)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        found = self._functions.get(name) if isinstance(name, str) else None
        if found is None and isinstance(name, str) and (of := self._functions.get(name.removesuffix("_async"))):
            return of.call_async
        if found is None:
            raise self._missing(name)
        return found

    def _missing(self, name: str) -> UnknownExport:
        return unknown("typed function", name, sorted(self._functions))

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._functions or name.removesuffix("_async") in self._functions)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._functions, *(f"{name}_async" for name in self._functions)})

    def __repr__(self) -> str:
        return f"<typed functions: {', '.join(self._functions)}>"


def typed_of(name: str, description: Mapping[str, Any] | None, caller: Caller) -> tuple[Functions, ModuleType]:
    """The typed functions of the module `name`, and its types; none if it has none.

    NotCallable: msgspec is not installed.
    """
    if description is None:
        return Functions({}), ModuleType("types", "The module has no types.")
    try:
        functions = importlib.import_module("gothreads.typed.functions")
    except ModuleNotFoundError as error:
        if error.name != "msgspec":
            raise
        raise NotCallable(f"{name}: typed functions need msgspec: pip install msgspec") from None
    found: tuple[Functions, ModuleType] = functions.functions_of(description, caller)
    return found
