"""`gothreads.open`: from a file, or a Go package's folder, to a running app."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gothreads.app import App, Limits, Options, check_not_forked
from gothreads.build.builder import Progress, Request, build
from gothreads.errors import MisuseError, ModuleError
from gothreads.host.streams import Readable, Writable
from gothreads.host.wasi import Mount, WasiSettings
from gothreads.loading import LoadedModule, load
from gothreads.models import SingleApp
from gothreads.threaded import ThreadedApp

#: How many threads may be in calls at the same time, unless told otherwise.
CALLERS = 64

PathLike = str | os.PathLike[str]


#: GOMAXPROCS at the most: each costs memory, and nobody has so many processors.
MOST_PROCS = 1024


def open(path: PathLike, *, args: Sequence[str] = (), env: Mapping[str, str] | None = None,
         mounts: Mapping[str, PathLike] | Sequence[Mount] = (), procs: int | None = None, callers: int = CALLERS,
         callers_timeout: float | None = None, limits: Limits | None = None, stdin: Readable | bytes | None = None,
         stdout: Writable | None = None, stderr: Writable | None = None, model: str | None = None) -> App:
    """Run a module, and return when its packages are initialised.

    path: a module's file, or a Go package's folder (or .go file), which is built, and kept in a cache.
    args, env: what Go sees as os.Args[1:] and its environment. Nothing is inherited.
    mounts: folders the module may use, as {"/in/the/module": "on/this/machine"}, or `gothreads.Mount`s. No others.
    procs: GOMAXPROCS; as many as there are processors unless told otherwise.
    callers: how many threads may be in calls at the same time; more wait, `callers_timeout` seconds (None: for ever), then
        get CallersBusy.
    stdin, stdout, stderr: file objects (of text or bytes); stdin may be bytes. Inherited unless given.
    model: "threaded" or "single", for a package that is built; a file is of the model it was built for.

    Raises BuildError, ModuleError, MisuseError before anything runs; GuestError when the module fails to start.
    """
    loaded = find(path, model=model)
    return open_loaded(loaded, args=args, env=env, mounts=mounts, procs=procs, callers=callers, callers_timeout=callers_timeout, limits=limits,
                       stdin=stdin, stdout=stdout, stderr=stderr)


def find(path: PathLike, *, model: str | None = None, buildmode: str | None = None, progress: Progress | None = None) -> LoadedModule:
    """The module behind a path: a file, or a package, which is built (for that model and build mode). An import path is a package too."""
    place = Path(path)
    if place.is_file() and place.suffix != ".go":
        loaded = load(place)
        if model is not None and loaded.model != model:
            raise ModuleError(f"{place} was built for the model {loaded.model}, not {model}. Rebuild it: gothreads build PACKAGE --model {model} -o {place}")
        return loaded
    if not place.exists() and place.suffix == ".wasm":
        raise ModuleError(f"there is no file {place}")
    built = build(Request(str(path), model=model or "threaded", buildmode=buildmode), progress)
    return replace(load(built.path), name=place.resolve().name)


def open_loaded(loaded: LoadedModule, *, args: Sequence[str] = (), env: Mapping[str, str] | None = None,
                mounts: Mapping[str, PathLike] | Sequence[Mount] = (), procs: int | None = None, callers: int = CALLERS,
                callers_timeout: float | None = None, limits: Limits | None = None, stdin: Readable | bytes | None = None,
                stdout: Writable | None = None, stderr: Writable | None = None) -> App:
    """Like open, for a module that was looked at before."""
    check_not_forked()
    if procs is not None and not 1 <= procs <= MOST_PROCS:
        raise MisuseError(f"procs must be between 1 and {MOST_PROCS}, not {procs}")
    if callers < 1:
        raise MisuseError(f"callers must be at least 1, not {callers}")
    folders = [Mount(Path(host), guest) for guest, host in mounts.items()] if isinstance(mounts, Mapping) else list(mounts)
    settings = WasiSettings([loaded.name, *args], dict(env or {}), folders)
    options = Options(settings, procs or available_processors(), callers, callers_timeout, limits or Limits(), stdin, stdout, stderr)
    app = (ThreadedApp if loaded.model == "threaded" else SingleApp)(loaded, options)
    app.start()
    if app.error is not None and app.exit != 0:
        error = app.error
        app.close()
        raise error
    return app


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
