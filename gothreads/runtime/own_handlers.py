"""The handlers of gothreads' own, beside the program's: typed functions use by them what Python lends to Go."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from gothreads.bridge.handlers import Handler
from gothreads.runtime.module_file import LoadedModule


def own_handlers(loaded: LoadedModule) -> Mapping[str, Handler]:
    """The handlers for a module."""
    if not loaded.has_typed or importlib.util.find_spec("msgspec") is None:  # typed_of reports that
        return {}
    lending = importlib.import_module("gothreads.typed.lending")
    return {lending.OBJECT: lending.answer}
