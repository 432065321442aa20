"""The handlers of gothreads' own, beside the program's.

By them typed functions use what Python lends to Go, streams say that they have items, and a module calls what Python
implements for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from gothreads.bridge.handlers import Handler, Inline
from gothreads.errors import MisuseError
from gothreads.runtime.module_file import LoadedModule
from gothreads.text import cut
from gothreads.typed import OBJECT, WAKE
from gothreads.typed.parking import wake


def own_handlers(loaded: LoadedModule, imports: Mapping[str, Any],
                 when_ended: Callable[[Callable[[], None]], object]) -> Mapping[str, Handler]:
    """The handlers for a module. MisuseError: the imports are not those that it needs.

    when_ended: is given what frees them.
    """
    if imports and not loaded.has_typed:
        raise MisuseError(f"{loaded.name}: imports are given ({cut(', '.join(imports))[1:-1]}), but the module imports "
                          "nothing: no variable has //gothreads:import")
    if importlib.util.find_spec("msgspec") is None:  # typed_of reports that
        return {}
    if not loaded.has_typed:
        return {OBJECT: _lent, WAKE: Inline(wake)} if loaded.may_stream else {}
    lending, typed = map(importlib.import_module, ("gothreads.typed.lending", "gothreads.typed.imports"))
    loan = lending.Loan()
    when_ended(loan.close)
    assert loaded.metadata is not None
    implemented: Mapping[str, Handler] = typed.implement(loaded.name, loaded.metadata.typed, imports, loan)
    return {OBJECT: lending.answer, WAKE: Inline(wake), **implemented}


def _lent(request: bytes) -> Any:
    """The handler OBJECT, for bodies. What it needs is imported when the first one is read."""
    return importlib.import_module("gothreads.typed.lending").answer(request)
