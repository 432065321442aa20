"""What a package that `gothreads stubs` or `wheel` has written does at its import: it gets its functions and classes.

The module is opened at the first call. So a package may be imported before a fork, but not called.
"""

from __future__ import annotations

import atexit
import importlib.resources
import json
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Unpack

from gothreads.bridge.buffers import Message, Reply
from gothreads.errors import ModuleError
from gothreads.launch import open as open_module
from gothreads.packages import DESCRIPTION, MODULE
from gothreads.runtime.app import App
from gothreads.runtime.options import OpenOptions
from gothreads.typed.functions import Read, functions_of


def fill(name: str) -> None:
    """Give the package of that name its functions and classes. ModuleError: a file of it is missing, or damaged."""
    package, folder = sys.modules[name], importlib.resources.files(name)
    file = folder / MODULE
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError) as error:
        raise ModuleError(f"{name}: {DESCRIPTION} cannot be read: {error}. Write the package again: gothreads stubs, "
                          "or gothreads wheel") from None

    def open(**options: Unpack[OpenOptions]) -> App:
        """Open the module once more, as gothreads.open does: `app.fit(…)`, with a state of its own."""
        options.setdefault("trust", True)  # as this Python code, which comes with it
        return open_module(file, **options)
    package.__dict__["open"] = open
    functions, types = functions_of(description, _LazyCaller(open), package)
    if types is not package:  # an app of the same module was open before
        package.__dict__.update((key, value) for key, value in vars(types).items() if not key.startswith("__"))
    for each in functions:
        package.__dict__[f"{each}_async"] = functions[each].call_async
    package.__dict__.update((each, functions[each]) for each in functions)


class _LazyCaller:
    """Calls the typed functions of an app that the first call opens. See typed.functions.Caller."""

    def __init__(self, open_app: Callable[[], App]) -> None:
        self._open, self._lock = open_app, threading.Lock()
        self._app: App | None = None

    @property
    def _caller(self) -> Any:
        app = self._app
        if app is None:
            with self._lock:
                if (app := self._app) is None:
                    app = self._app = self._open()
                    atexit.register(app.close)  # before gothreads warns of apps that were left open
        return app._caller

    def call(self, handler: str, message: Message) -> Reply:
        reply: Reply = self._caller.call(handler, message)
        return reply

    def submit(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Future[Any]:
        future: Future[Any] = self._caller.submit(handler, message, read, options)
        return future

    def wait(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Any:
        return self._caller.wait(handler, message, read, options)
