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

from gothreads.engine.precompiled import Trust
from gothreads.errors import GothreadsError, MisuseError, ModuleError, hides_frames
from gothreads.files import reason, where
from gothreads.output.progress import watching
from gothreads.runtime.app import App
from gothreads.runtime.keywords import complete, documented
from gothreads.runtime.models import MODELS, Model
from gothreads.runtime.module_file import LoadedModule, load, load_content
from gothreads.runtime.module_source import Content, ModuleSource, source_of
from gothreads.runtime.options import LoadedOptions, OpenOptions, PathLike, available_processors, resolve
from gothreads.runtime.pickling import PickledOptions
from gothreads.runtime.process import check_not_forked, use
from gothreads.text import cut
from gothreads.wasm.metadata import SINGLE, THREADED

__all__ = ["LoadedOptions", "OpenOptions", "PathLike", "available_processors", "check_exists", "find", "find_for",
           "make", "open", "open_loaded", "started"]

#: Code in this module uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/own_code.py).
PROGRAM_CODE = True

log = logging.getLogger("gothreads")


@hides_frames
@documented(OpenOptions)
def open(path: ModuleSource, **options: Unpack[OpenOptions]) -> App:
    """Start a module. Returns when its packages are initialised and its `start` hook has returned.

    `main` keeps running after that. A handler that it has not registered yet can already be requested: see
    `App.request`.

    path: a module file, or a Go package's folder (or .go file), which is built and cached. Or a file's content, as
        bytes or as a resource (importlib.resources.files), which may be in a zip file. The file need not come from Go:
        a module with plain exports runs as "single" or "pool", one that uses wasi-threads as "threaded".
    {OpenOptions}

    Python signal handlers (Ctrl-C's included) run while the main thread is in a call. An exception from one is raised
    out of the call: when the call returns, or after 0.2 s, which ends the app (in a pool, the instance). In a Python
    function that the module has called, it is raised as usual; if it leaves the function, that ends the app (the
    instance) too. Meanwhile `signal.getsignal` returns a wrapper of the handler.

    Raises BuildError, ModuleError or MisuseError before anything runs; GuestError when the module fails to start.
    """
    complete("open()", OpenOptions, options)  # wrong options are refused before anything is built
    source = source_of(path)
    app = open_loaded(find_for(source, options), **options)
    app.configuration = PickledOptions.of("gothreads.open", source, options)
    return app


def find_for(source: PathLike | Content, options: OpenOptions) -> LoadedModule:
    """Load the module that is opened with these options, which were checked."""
    with watching(options.get("progress")):
        return find(source, model=options.get("model"), go=options.get("go"), trust=options.get("trust", False),
                    optimize=options.get("optimize", False), simulate=options.get("simulate") is not None)


def find(source: PathLike | Content, *, model: str | None = None, buildmode: str | None = None,
         go: PathLike | None = None, trust: Trust = False, optimize: bool = False,
         simulate: bool = False) -> LoadedModule:
    """Load a module: a file, its content, or a package (also by import path), which is built for the model and mode.

    simulate: build a package for that, as a program.
    """
    if simulate and model not in (None, SINGLE):
        raise MisuseError(f"simulate= (--simulate) runs stock Go on one thread, not the model {cut(model)}")
    if model is not None and (not isinstance(model, str) or model not in MODELS):
        raise MisuseError(f"there is no model {cut(model)}; there are: {', '.join(MODELS)}")
    wanted = MODELS[model] if model is not None else None
    if isinstance(source, Content):
        return _fitting(load_content(source.name, source.content, trust), source.name, wanted, optimize=optimize)
    check_exists(source)
    place = Path(source)
    if os.path.isfile(place) and place.suffix != ".go":
        return _fitting(load(place, trust), place, wanted, optimize=optimize)
    from gothreads.build.builder import build  # takes 20 ms, and files need none of it
    from gothreads.build.request import Request
    build_model = SINGLE if simulate else THREADED if wanted is None else wanted.build_model
    built = build(Request(str(source), model=build_model, buildmode="exe" if simulate else buildmode,
                          go=None if go is None else os.fspath(go), optimize=optimize, simulate=simulate))
    return replace(load(built.path, trust=True), name=place.resolve().name)


def check_exists(source: PathLike) -> None:
    """ModuleError if a module's file or folder does not exist. Whether an import path exists, Go says."""
    name = str(source)
    if os.path.exists(source):  # not Path.exists, which raises for names that are too long
        return
    if Path(name).suffix in (".wasm", ".cwasm", ".go"):
        raise ModuleError(f"there is no file {name}{where(name)}")
    if name.startswith((".", "/")):
        raise ModuleError(f"there is no folder {name}{where(name)}")
    if "/" not in name and "." not in name:
        raise ModuleError(f"there is no file or folder {name}{where(name)}")


def _fitting(loaded: LoadedModule, place: str | Path, wanted: Model | None, *, optimize: bool) -> LoadedModule:
    """The module, if that model can run it. ModuleError if not."""
    if optimize and not (loaded.metadata and loaded.metadata.optimized):
        raise MisuseError(f"{place} is built already, and was not optimized. optimize=True (--optimize) is for "
                          f"packages. Rebuild it: gothreads build PACKAGE --optimize -o {place}; or change the file: "
                          f"gothreads optimize {place} -o FILE")
    if wanted is None:
        return loaded
    if loaded.foreign and (wanted.foreign_app is None or wanted.build_model != loaded.model):
        fitting = [name for name, other in MODELS.items()
                   if other.foreign_app is not None and other.build_model == loaded.model]
        how = f"{'wasi-threads' if loaded.threaded else 'no threads'}, so it is run as {' or '.join(fitting)}"
        raise ModuleError(f"{place} was not built from Go, and has {how}")
    if wanted.build_model != loaded.model:
        as_what = "" if wanted.app.model == wanted.build_model else f", which {wanted.app.model} runs"
        raise ModuleError(f"{place} was built for the model {loaded.model}, not {wanted.build_model}{as_what}. "
                          f"Rebuild it: gothreads build PACKAGE --model {wanted.build_model} -o {place}")
    return loaded


def open_loaded(loaded: LoadedModule, **options: Unpack[LoadedOptions]) -> App:
    """Like open, for a module that is already loaded."""
    return started(make(loaded, **options))


def make(loaded: LoadedModule, **options: Unpack[LoadedOptions]) -> App:
    """Create an app without starting it. It may be closed before and during its start."""
    check_not_forked()
    _check_not_patched(sockets=bool(options.get("listen") or options.get("allow_net")))
    model = options.get("model")
    if options.get("instances") is not None and not (model and MODELS[model].has_many_instances):
        raise MisuseError('instances (--instances) are for the model "pool" (--model pool)')
    resolved = resolve(loaded, options)
    chosen = MODELS[model or loaded.model]
    kind = chosen.foreign_app or chosen.app if loaded.foreign else chosen.app
    use()
    with _refusals_told(loaded), watching(options.get("progress")):
        return kind(loaded, resolved)


#: Must be Python's own, because operating system threads use it: the libraries' replacements would wait for an event
#: loop that does not run.
_REAL = ("_thread.start_new_thread", "_thread.allocate_lock", "threading.get_ident", "threading.local",
         "threading.Event", "queue.SimpleQueue",
         "select.poll", "select.epoll", "time.sleep", "os.read")
_PATCHING = {"gevent": "gevent.monkey.patch_all(thread=False, queue=False, select=False, time=False{})",
             "eventlet": "eventlet.monkey_patch(os=False, select=False, thread=False, time=False{})"}


def _check_not_patched(*, sockets: bool) -> None:
    """MisuseError if gevent or eventlet has replaced what threads need. `sockets`: check sockets too."""
    replaced: dict[str, list[str]] = {}
    for name in (*_REAL, "socket.socket") if sockets else _REAL:
        module, _, attribute = name.partition(".")
        library = str(getattr(getattr(importlib.import_module(module), attribute, None), "__module__",
                              "")).partition(".")[0]
        if library in _PATCHING:
            replaced.setdefault(library, []).append(name)
    for library, names in replaced.items():
        how = _PATCHING[library].format(", socket=False" if sockets else "")
        raise MisuseError(f"{library} has replaced {', '.join(names)}, of which gothreads needs Python's own: its "
                          f"threads are the system's. Patch the rest: {how}; and call the module on {library}'s pool "
                          f"of threads, or the event loop stands still meanwhile")


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
