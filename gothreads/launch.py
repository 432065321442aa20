"""`gothreads.open`: turns a module file or a Go package into a running app."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from gothreads.bridge.handlers import Handler
from gothreads.bridge.host_registry import Functions, Host, given_functions, given_handlers
from gothreads.build.builder import Progress, Request, build
from gothreads.engine.precompiled import Trust
from gothreads.errors import GothreadsError, MisuseError, ModuleError
from gothreads.files import reason
from gothreads.progress import Progress as Watcher
from gothreads.progress import watching
from gothreads.runtime.app import App
from gothreads.runtime.lifecycle import check_not_forked
from gothreads.runtime.models.idle import IdleApp
from gothreads.runtime.models.pool import PoolApp
from gothreads.runtime.models.single import SingleApp
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.runtime.models.wasi_threads import WasiThreadsApp
from gothreads.runtime.module_file import LoadedModule, load, load_content
from gothreads.runtime.module_source import Content, ModuleSource, source_of
from gothreads.runtime.options import Limits, OnStall, Options
from gothreads.runtime.pickling import PickledOptions
from gothreads.text import cut
from gothreads.wasi.definitions import Mount, WasiSettings
from gothreads.wasi.sockets import Rule
from gothreads.wasi.streams import Readable, Writable

#: Code in this module uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/lifecycle.py).
PROGRAM_CODE = True

log = logging.getLogger("gothreads")

#: Default for how many threads may be in calls at the same time.
CALLERS = 64
#: Default for how many events of each name may be queued.
EVENT_QUEUE = 1024
#: Run model -> the build model that it needs.
RUN_MODELS = {"threaded": "threaded", "single": "single", "idle": "single", "pool": "single"}
_APPS: dict[str, type[App]] = {"threaded": ThreadedApp, "single": SingleApp, "idle": IdleApp, "pool": PoolApp}

PathLike = str | os.PathLike[str]


#: Upper bound for GOMAXPROCS: each P costs memory, and no machine has so many processors.
MOST_PROCS = 1024


class OpenOptions(TypedDict, total=False):
    """Options of `open` besides the path, the model, and the Go to build with."""

    args: Sequence[str]
    env: Mapping[str, str] | None
    mounts: Mapping[str, PathLike] | Sequence[Mount]
    procs: int | None
    callers: int
    callers_timeout: float | None
    limits: Limits | None
    stdin: Readable | bytes | None
    stdout: Writable | None
    stderr: Writable | None
    stall_timeout: float | None
    on_stall: OnStall
    listen: Sequence[str]
    allow_net: Sequence[str]
    host: Host | Functions | None
    handlers: Mapping[str, Handler] | None
    event_queue: int
    loop: asyncio.AbstractEventLoop | None
    instances: int | None


class LoadedOptions(OpenOptions, total=False):
    """Options of `open_loaded` besides the module."""

    model: str | None
    no_calls: bool


def open(path: ModuleSource, *,  # noqa: PLR0913  (public options)
         args: Sequence[str] = (), env: Mapping[str, str] | None = None,
         mounts: Mapping[str, PathLike] | Sequence[Mount] = (), procs: int | None = None, callers: int = CALLERS,
         callers_timeout: float | None = None, limits: Limits | None = None, stdin: Readable | bytes | None = None,
         stdout: Writable | None = None, stderr: Writable | None = None, stall_timeout: float | None = None, on_stall: OnStall = "report",
         listen: Sequence[str] = (), allow_net: Sequence[str] = (), host: Host | Functions | None = None,
         handlers: Mapping[str, Handler] | None = None, event_queue: int = EVENT_QUEUE, loop: asyncio.AbstractEventLoop | None = None,
         instances: int | None = None, model: str | None = None, go: PathLike | None = None,
         progress: bool | Watcher | None = None, trust: Trust = False) -> App:
    """Start a module. Returns when its packages are initialised and its `start` hook has returned.

    `main` keeps running after that. A handler that it has not registered yet can already be requested: see
    `App.request`.

    path: a module file, or a Go package's folder (or .go file), which is built and cached. Or a file's content: bytes,
        or a resource (importlib.resources.files), which may be in a zip file. The file need not come
        from Go: a module with plain exports runs as "single" or "pool", one that uses wasi-threads as "threaded".
    args, env: os.Args[1:] and the environment in Go. Nothing is inherited from this process.
    mounts: folders that the module may use, as {"/in/the/module": "on/this/machine"} or as `gothreads.Mount`s, which
        can also be single read-only files. The module sees nothing else, except the parent folders of the mounts.
    procs: GOMAXPROCS. Default: the number of available processors.
    callers: how many threads may be in calls at the same time. Others wait up to `callers_timeout` seconds (None:
        without limit), then get CallersBusy.
    limits: what the module may use; see `gothreads.Limits`.
    stdin, stdout, stderr: file objects (text or bytes); stdin may be bytes. Inherited by default.
    stall_timeout: seconds. When all calls in the module have waited this long and nothing can wake them (no runnable
        goroutine, no timer or ticker, no host call, nothing waiting for a peer), do what `on_stall` says, once:
        "report" logs the stall with all stacks, "exit" ends the app (Stalled), a function is called with the
        `gothreads.Stall`. (Stock Go ends the program by itself.)
    listen: addresses to listen on, such as "127.0.0.1:8080" (port 0: any free port; see `App.listening`) or
        "unix:/path". The module receives the sockets: guest.Listener().
    allow_net: what the module itself may dial and listen on: "HOST:PORT" (either may be "*") or "unix:/path". Nothing
        else is allowed. It may listen where other machines can connect only if that address is named, such as
        "0.0.0.0:8080".
    host: Python functions that the module imports, as {"env": {"log": function}} for Go's
        //go:wasmimport env log, or a `gothreads.Host`. They take and return ints, floats, bools and str (or bytes,
        where annotated so), as declared in Go; a parameter annotated `gothreads.Context` receives the app and its
        memory. Each runs on the thread that calls it, so several may run at once. An exception in one ends the app
        (HostFunctionError). They may call the app's exports. Mismatches are reported by `open`, before anything runs.
    handlers: functions that the module calls by name, with guest.Call and guest.Notify. They take the payload (bytes)
        and return bytes, str, None or a Future; or they are coroutine functions. An exception becomes an error in Go.
        Plain functions run on the app's threads, up to `callers` at once; coroutines run on `loop`, or on a loop that
        the app creates.
    event_queue: how many events of each name may be queued for the module; see `App.signal`.
    model: how the module runs (docs/models.md): "threaded" (keeps running, on threads); "single" (stock Go: one call
        at a time, suspended between calls); "idle" (like "single", but what a call starts runs until every goroutine
        waits); "pool" (like "single", in `instances` isolated instances; default: the number of available
        processors). A package is built for the model; a file built for "single" also runs as "idle" or "pool".
    go: the go command to build with.
    progress: who is told when building and compiling take long. None: you, on standard error, if that is a terminal or
        this is a notebook; otherwise the log has a line. True: always on standard error; False: only the log. Or a
        function of (stage, done, total): of the stage "build", packages; of "compile", seconds and an estimate, or
        None. When a stage ends, done is total. It may be called on another thread.
    trust: for a file with machine code (gothreads compile -o), which can do whatever this process can: its digest, or
        True to trust it whatever it contains.

    Python signal handlers (Ctrl-C's included) run while the main thread is in a call. An exception from one is raised
    out of the call: when the call returns, or after 0.2 s, which ends the app (in a pool, the instance). In a Python
    function that the module has called, it is raised as usual; if it leaves the function, that ends the app (the
    instance) too. Meanwhile `signal.getsignal` returns a wrapper of the handler.

    Raises BuildError, ModuleError or MisuseError before anything runs; GuestError when the module fails to start.
    """
    options = OpenOptions(args=args, env=env, mounts=mounts, procs=procs, callers=callers, callers_timeout=callers_timeout, limits=limits,
                          stdin=stdin, stdout=stdout, stderr=stderr, stall_timeout=stall_timeout, on_stall=on_stall,
                          listen=listen, allow_net=allow_net, host=host, handlers=handlers, event_queue=event_queue, loop=loop,
                          instances=instances)
    source = source_of(path)
    with watching(progress):
        app = open_loaded(find(source, model=model, go=go, trust=trust), **options, model=model)
    app.configuration = PickledOptions.of("open", source, {**options, "model": model, "go": go, "trust": trust})
    return app


def find(source: PathLike | Content, *, model: str | None = None, buildmode: str | None = None, go: PathLike | None = None,
         progress: Progress | None = None, trust: Trust = False) -> LoadedModule:
    """Load a module: a file, its content, or a package (also by import path), which is built for the model and mode."""
    if model is not None and (not isinstance(model, str) or model not in RUN_MODELS):
        raise MisuseError(f"there is no model {cut(model)}; there are: {', '.join(RUN_MODELS)}")
    if not isinstance(trust, bool | str):
        raise MisuseError(f"trust must be True, False or a file's digest, not {cut(trust)}")
    if isinstance(source, Content):
        return _fitting(load_content(source.name, source.content, trust), source.name, model)
    place = Path(source)
    there = os.path.exists(place)  # not Path.exists, which raises for names that are too long
    if os.path.isfile(place) and place.suffix != ".go":
        return _fitting(load(place, trust), place, model)
    if not there and place.suffix == ".wasm":
        raise ModuleError(f"there is no file {place}")
    if not there and "/" not in str(source) and "." not in str(source):
        raise ModuleError(f"there is no file or folder {place}")
    built = build(Request(str(source), model=RUN_MODELS[model] if model else "threaded", buildmode=buildmode,
                          go=None if go is None else os.fspath(go)), progress)
    return replace(load(built.path), name=place.resolve().name)


def _fitting(loaded: LoadedModule, place: str | Path, model: str | None) -> LoadedModule:
    """The module, if it can be run in a model. ModuleError if not."""
    build_model = RUN_MODELS[model] if model else None
    if loaded.foreign and (model == "idle" or build_model not in (None, loaded.model)):
        how = "wasi-threads, so it is run as threaded" if loaded.model == "threaded" else "no threads, so it is run as single or pool"
        raise ModuleError(f"{place} was not built from Go, and has {how}")
    if build_model is not None and loaded.model != build_model:
        raise ModuleError(f"{place} was built for the model {loaded.model}, not {build_model}. Rebuild it: "
                          f"gothreads build PACKAGE --model {build_model} -o {place}")
    return loaded


def open_loaded(loaded: LoadedModule, **options: Unpack[LoadedOptions]) -> App:
    """Like open, for a module that is already loaded.

    no_calls: exports will not be called, so a stall is detected without any call.
    """
    return started(make(loaded, **options))


def make(loaded: LoadedModule, *,  # noqa: PLR0913  (open's options)
                args: Sequence[str] = (), env: Mapping[str, str] | None = None,
                mounts: Mapping[str, PathLike] | Sequence[Mount] = (), procs: int | None = None, callers: int = CALLERS,
                callers_timeout: float | None = None, limits: Limits | None = None, stdin: Readable | bytes | None = None,
                stdout: Writable | None = None, stderr: Writable | None = None, stall_timeout: float | None = None,
                on_stall: OnStall = "report", listen: Sequence[str] = (), allow_net: Sequence[str] = (), host: Host | Functions | None = None,
                handlers: Mapping[str, Handler] | None = None, event_queue: int = EVENT_QUEUE,
                loop: asyncio.AbstractEventLoop | None = None, instances: int | None = None, model: str | None = None, no_calls: bool = False) -> App:
    """Create an app without starting it. It may be closed before and during its start."""
    check_not_forked()
    _check_not_patched(sockets=bool(listen or allow_net))
    _check_types(args=args, env=env, limits=limits, stdin=stdin,
                 integers={"procs": procs, "callers": callers, "event_queue": event_queue, "instances": instances})
    if stall_timeout is not None and (isinstance(stall_timeout, bool) or not isinstance(stall_timeout, int | float) or not stall_timeout > 0):
        raise MisuseError(f"stall_timeout must be a number of seconds above 0, not {cut(stall_timeout)}")
    if on_stall not in ("report", "exit") and not callable(on_stall):
        raise MisuseError(f'on_stall must be "report", "exit", or a function, not {cut(on_stall)}')
    if procs is not None and not 1 <= procs <= MOST_PROCS:
        raise MisuseError(f"procs must be between 1 and {MOST_PROCS}, not {cut(procs)}")
    for name, value in (("callers", callers), ("event_queue", event_queue), ("instances", instances)):
        if value is not None and value < 1:
            raise MisuseError(f"{name} must be at least 1, not {cut(value)}")
    if instances is not None and model != "pool":
        raise MisuseError('instances are for the model "pool"')
    if on_stall != "report" and stall_timeout is None:
        raise MisuseError("on_stall needs stall_timeout (--stall-timeout S): how long nothing must go on")
    for name, addresses in (("listen", listen), ("allow_net", allow_net)):
        if isinstance(addresses, str) or not isinstance(addresses, Sequence) or not all(isinstance(text, str) for text in addresses):
            raise MisuseError(f"{name} must be a list of addresses, not {cut(addresses)}")
    given = given_handlers(host, handlers)
    if given and not loaded.has_messages:
        why = "was not built from Go" if loaded.foreign else "does not import gothreads/guest"
        raise MisuseError(f"{loaded.name}: handlers are given ({cut(', '.join(given))[1:-1]}), but the module {why}, so it calls none")
    rules = tuple(Rule.parse(text) for text in allow_net)
    handed = {"LISTEN_FDS": str(len(listen))} if listen else {}  # the convention of systemd
    folders = _mounts(mounts)
    settings = WasiSettings([loaded.name.encode(errors="replace").decode(), *args], dict(env or {}) | handed, folders)
    options = Options(settings, procs or available_processors(), callers, callers_timeout, limits or Limits(), stdin, stdout, stderr,
                      stall_timeout, on_stall, no_calls, tuple(listen), rules, given, event_queue, loop,
                      instances or available_processors(), given_functions(host))
    kind = WasiThreadsApp if loaded.foreign and loaded.model == "threaded" else _APPS[model or loaded.model]
    with _refusals_told(loaded):
        return kind(loaded, options)


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


def _check_types(*, args: object, env: object, limits: object, stdin: object, integers: Mapping[str, object]) -> None:
    """Checks what a type checker would. `integers`: the options that are an int or None, by name."""
    if isinstance(args, str | bytes) or not isinstance(args, Sequence) or not all(isinstance(a, str) for a in args):
        raise MisuseError(f"args must be a list of str, not {cut(args)}")
    if env is not None and not (isinstance(env, Mapping) and all(isinstance(n, str) and n and "=" not in n and isinstance(v, str) for n, v in env.items())):
        raise MisuseError(f"env must be a dict of str to str, with names that have no '=', not {cut(env)}")
    for name, value in integers.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise MisuseError(f"{name} must be an int, not {cut(value)}")
    if limits is not None and not isinstance(limits, Limits):
        raise MisuseError(f"limits must be gothreads.Limits(...), not {cut(limits)}")
    if stdin is not None and not isinstance(stdin, bytes) and not hasattr(stdin, "read"):
        raise MisuseError(f"stdin must be bytes or a file object, not {cut(stdin)}")


def _mounts(mounts: Mapping[str, PathLike] | Sequence[Mount]) -> list[Mount]:
    try:
        given = [Mount(Path(host), guest) for guest, host in mounts.items()] if isinstance(mounts, Mapping) else list(mounts)
        folders = [replace(mount, host=Path(mount.host)) for mount in given]
    except (TypeError, AttributeError):
        raise MisuseError(f'mounts must be a dict such as {{"/data": "./data"}}, or a list of gothreads.Mount, not {cut(mounts)}') from None
    for mount in folders:
        if not isinstance(mount.guest, str) or not mount.guest.startswith("/"):
            raise MisuseError(f"a mount's name in the module must begin with a slash, not {cut(mount.guest)}")
    return folders


def available_processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0))
