"""`gothreads.open`: turns a module file or a Go package into a running app."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from gothreads.build.builder import Progress, Request, build
from gothreads.errors import GothreadsError, MisuseError, ModuleError
from gothreads.files import reason
from gothreads.runtime.app import App
from gothreads.runtime.keywords import complete, documented
from gothreads.runtime.lifecycle import check_not_forked
from gothreads.runtime.models.idle import IdleApp
from gothreads.runtime.models.pool import PoolApp
from gothreads.runtime.models.single import SingleApp
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.runtime.models.wasi_threads import WasiThreadsApp
from gothreads.runtime.module_file import LoadedModule, load
from gothreads.runtime.options import LoadedOptions, OpenOptions, PathLike, available_processors, resolve
from gothreads.runtime.pickling import PickledOptions
from gothreads.text import cut

__all__ = ["RUN_MODELS", "LoadedOptions", "OpenOptions", "PathLike", "available_processors", "find", "make", "open",
           "open_loaded", "say_once", "started"]

#: Code in this module uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/lifecycle.py).
PROGRAM_CODE = True

log = logging.getLogger("gothreads")

#: Run model -> the build model that it needs.
RUN_MODELS = {"threaded": "threaded", "single": "single", "idle": "single", "pool": "single"}
_APPS: dict[str, type[App]] = {"threaded": ThreadedApp, "single": SingleApp, "idle": IdleApp, "pool": PoolApp}


@documented(OpenOptions)
def open(path: PathLike, **options: Unpack[OpenOptions]) -> App:
    """Start a module. Returns when its packages are initialised and its `start` hook has returned.

    `main` keeps running after that. A handler that it has not registered yet can already be requested: see
    `App.request`.

    path: a module file, or a Go package's folder (or .go file), which is built and cached. The file need not come from
        Go: a module with plain exports runs as "single" or "pool", one that uses wasi-threads as "threaded".
    {OpenOptions}

    Python signal handlers (Ctrl-C's included) run while the main thread is in a call. An exception from one is raised
    out of the call: when the call returns, or after 0.2 s, which ends the app (in a pool, the instance). In a Python
    function that the module has called, it is raised as usual; if it leaves the function, that ends the app (the
    instance) too. Meanwhile `signal.getsignal` returns a wrapper of the handler.

    Raises BuildError, ModuleError or MisuseError before anything runs; GuestError when the module fails to start.
    """
    complete("open()", OpenOptions, options)  # wrong options are refused before anything is built
    loaded = find(path, model=options.get("model"), go=options.get("go"), progress=say_once())
    app = open_loaded(loaded, **options)
    app.configuration = PickledOptions.of("open", path, options)
    return app


def say_once() -> Progress:
    """Build progress for the log: one line, if Go's standard library has to be compiled."""
    def progress(done: int, total: int) -> None:
        if done == 20:
            log.warning("compiling Go's standard library for WebAssembly: up to %d packages, the first time only", total)
    return progress


def find(path: PathLike, *, model: str | None = None, buildmode: str | None = None, go: PathLike | None = None,
         progress: Progress | None = None) -> LoadedModule:
    """Load the module at a path: a file, or a package (also by import path), which is built for the model and mode."""
    place = Path(path)
    if model is not None and (not isinstance(model, str) or model not in RUN_MODELS):
        raise MisuseError(f"there is no model {cut(model)}; there are: {', '.join(RUN_MODELS)}")
    idle, model = model == "idle", RUN_MODELS[model] if model else None
    there = os.path.exists(place)  # not Path.exists, which raises for names that are too long
    if os.path.isfile(place) and place.suffix != ".go":
        loaded = load(place)
        if loaded.foreign and (idle or model not in (None, loaded.model)):
            how = "wasi-threads, so it is run as threaded" if loaded.model == "threaded" else "no threads, so it is run as single or pool"
            raise ModuleError(f"{place} was not built from Go, and has {how}")
        if model is not None and loaded.model != model:
            raise ModuleError(f"{place} was built for the model {loaded.model}, not {model}. Rebuild it: gothreads build PACKAGE --model {model} -o {place}")
        return loaded
    if not there and place.suffix == ".wasm":
        raise ModuleError(f"there is no file {place}")
    if not there and "/" not in str(path) and "." not in str(path):
        raise ModuleError(f"there is no file or folder {place}")
    built = build(Request(str(path), model=model or "threaded", buildmode=buildmode, go=None if go is None else os.fspath(go)), progress)
    return replace(load(built.path), name=place.resolve().name)


def open_loaded(loaded: LoadedModule, **options: Unpack[LoadedOptions]) -> App:
    """Like open, for a module that is already loaded."""
    return started(make(loaded, **options))


def make(loaded: LoadedModule, **options: Unpack[LoadedOptions]) -> App:
    """Create an app without starting it. It may be closed before and during its start."""
    check_not_forked()
    _check_not_patched(sockets=bool(options.get("listen") or options.get("allow_net")))
    resolved = resolve(loaded, options)
    kind = WasiThreadsApp if loaded.foreign and loaded.model == "threaded" else _APPS[options.get("model") or loaded.model]
    with _refusals_told(loaded):
        return kind(loaded, resolved)


#: Must be Python's own, because operating system threads use it: the libraries' replacements would wait for an event
#: loop that does not run.
_REAL = ("_thread.start_new_thread", "_thread.allocate_lock", "threading.get_ident", "threading.local", "threading.Event", "queue.SimpleQueue",
         "select.poll", "select.epoll", "time.sleep", "os.read")
_PATCHING = {"gevent": "gevent.monkey.patch_all(thread=False, queue=False, select=False, time=False{})",
             "eventlet": "eventlet.monkey_patch(os=False, select=False, thread=False, time=False{})"}


def _check_not_patched(*, sockets: bool) -> None:
    """MisuseError if gevent or eventlet has replaced what threads need. `sockets`: check sockets too."""
    replaced: dict[str, list[str]] = {}
    for name in (*_REAL, "socket.socket") if sockets else _REAL:
        module, _, attribute = name.partition(".")
        library = str(getattr(getattr(importlib.import_module(module), attribute, None), "__module__", "")).partition(".")[0]
        if library in _PATCHING:
            replaced.setdefault(library, []).append(name)
    for library, names in replaced.items():
        how = _PATCHING[library].format(", socket=False" if sockets else "")
        raise MisuseError(f"{library} has replaced {', '.join(names)}, of which gothreads needs Python's own: its threads are the system's. Patch the rest: "
                          f"{how}; and call the module on {library}'s pool of threads, or the event loop stands still meanwhile")


def started(app: App) -> App:
    """Start an app from `make`. GuestError if it fails to start, AppClosed if it is closed meanwhile."""
    with _refusals_told(app.loaded):
        app.start()
    if app.error is not None and app.exit != 0:
        error = app.error
        app.close()
        raise error
    return app


@contextlib.contextmanager
def _refusals_told(loaded: LoadedModule) -> Iterator[None]:
    """Turns an OSError into a GothreadsError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, GothreadsError):  # CallTimeout is also an OSError
            raise
        raise GothreadsError(f"cannot open {loaded.name}: {reason(error)}") from error
