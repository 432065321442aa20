"""What a package that `gothreads stubs` or `wheel` has written does at its import: it gets its functions and classes.

The first call opens the module, and so does the first one after the module has ended. So a package may be imported
before a fork, but not called. How it is opened is in packages/opening.py.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import Future
from dataclasses import replace
from importlib.resources.abc import Traversable
from typing import Any, Unpack

from gothreads.bridge.buffers import Message, Reply
from gothreads.errors import CallTimeout, ModuleError, hides_frames
from gothreads.launch import find_for, make, started
from gothreads.packages import DESCRIPTION, MODULE
from gothreads.packages.opening import Opening, Openings
from gothreads.runtime.app import App
from gothreads.runtime.cancellation import checked
from gothreads.runtime.keywords import complete
from gothreads.runtime.module_source import source_of
from gothreads.runtime.options import OpenOptions
from gothreads.runtime.pickling import PickledOptions
from gothreads.sync.later import Later, left
from gothreads.sync.waiting import wait_in_slices
from gothreads.text import shown
from gothreads.typed.caller import Read
from gothreads.typed.functions import functions_of

#: This module uses apps as a program does: close() in a signal handler that has interrupted it may wait
#: (runtime/own_code.py).
PROGRAM_CODE = True


def fill(name: str) -> None:
    """Give the package of that name its functions and classes. ModuleError: a file of it is missing, or damaged."""
    package, folder = sys.modules[name], importlib.resources.files(name)
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError) as error:
        raise ModuleError(f"{name}: {DESCRIPTION} cannot be read: {error}. Write the package again: gothreads stubs, "
                          "or gothreads wheel") from None

    @hides_frames
    def open(**options: Unpack[OpenOptions]) -> App:
        """Open the module once more, as gothreads.open does: `app.fit(…)`, with a state of its own."""
        return started(_make(name, folder / MODULE, options))
    open.__module__, open.__qualname__ = name, "open"  # for pickle
    package.__dict__["open"] = open
    caller = _PackageCaller(name, lambda: _make(name, folder / MODULE, {}))
    functions, types = functions_of(description, caller, package)
    if types is not package:  # an app of the same module was open before
        for key, value in list(vars(types).items()):
            if not key.startswith("__"):
                package.__dict__[key] = value
            if isinstance(value, type) and value.__module__ == types.__name__:
                value.__module__ = name  # another process imports them from here
    for each in functions:
        functions[each].__module__ = name
        package.__dict__[f"{each}_async"] = functions[each].call_async
    package.__dict__.update((each, functions[each]) for each in functions)


def _make(name: str, file: Traversable, options: OpenOptions) -> App:
    """Create an app of a package, without starting it. Its name in errors is the package's."""
    complete("open()", OpenOptions, options)
    options.setdefault("trust", True)  # as this Python code, which comes with it
    app = make(replace(find_for(source_of(file), options), name=name), **options)
    app.configuration = PickledOptions.of(f"{name}.open", None, options)
    return app


class _PackageCaller:
    """Calls the typed functions of a package's own app. See typed.caller.Caller.

    A call's timeout covers the opening: what is left of it is for the call. A call that is given up before that is not
    made; the opening goes on, for later ones.
    """

    parks = False

    def __init__(self, name: str, make: Callable[[], App]) -> None:
        self._name, self._openings = name, Openings(name, make)

    def call(self, handler: str, message: Message) -> Reply:
        app = self._openings.up or self._wait(handler, None)
        reply: Reply = app._caller.call(handler, message)
        return reply

    def submit(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Future[Any]:
        if (app := self._openings.up) is not None:
            future: Future[Any] = app._caller.submit(handler, message, read, options)
            return future
        _check(options)
        begun, opening = time.monotonic(), self._openings.begun()
        later: Later[Any] = Later()
        if (timeout := options.get("timeout")) is not None:
            later.fail_after(self._openings.deadlines, timeout, lambda: self._too_late(handler, timeout))

        def begin(app: App) -> Future[Any]:
            future: Future[Any] = app._caller.submit(handler, message, read, left(options, begun))
            return future
        opening.when_done(lambda: later.fail(error) if (error := opening.error()) is not None else
                          later.begin(lambda: begin(opening.result())))
        return later

    def wait(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Any:
        if (app := self._openings.up) is None:
            _check(options)
            begun = time.monotonic()
            app = self._wait(handler, options.get("timeout"))
            options = left(options, begun)
        return app._caller.wait(handler, message, read, options)

    def reduce(self, name: str) -> str:
        return name  # an attribute of the package

    def _wait(self, handler: str, timeout: float | None) -> App:
        """Wait until the module is open. CallTimeout; or why it cannot be opened."""
        opening: Opening = self._openings.begun()
        if not wait_in_slices(lambda seconds: bool(futures.wait((opening,), seconds).done), timeout):
            assert timeout is not None
            raise self._too_late(handler, timeout)
        if (error := opening.error()) is not None:
            raise error
        return opening.result()

    def _too_late(self, handler: str, timeout: float) -> CallTimeout:
        return CallTimeout(f"{self._name}: the call of {shown(handler.partition(':')[2])} has not begun within "
                           f"{timeout:g} s: the module is being opened, which goes on, for later calls")


def _check(options: Mapping[str, Any]) -> None:
    """MisuseError, before anything is opened, if an option of a call is wrong."""
    checked(options.get("timeout"), options.get("on_timeout", "cancel"), request=True)
