"""The limits and options of an app: the definition of what `open` takes, and the checked result.

Annotations in this module are evaluated when it is imported (no `from __future__ import annotations`): see
runtime/keywords.py.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from gothreads.bridge.handlers import Handler
from gothreads.bridge.host_registry import Functions, Host, given_functions, given_handlers, given_imports
from gothreads.engine.precompiled import Trust
from gothreads.errors import MisuseError
from gothreads.output.progress import Progress
from gothreads.runtime.keywords import Option, check_bool, complete, one_of, whole
from gothreads.runtime.module_file import LoadedModule
from gothreads.sync.seconds import check_seconds
from gothreads.text import as_size, cut
from gothreads.wasi.authorities import with_authorities
from gothreads.wasi.handed_listeners import Listeners
from gothreads.wasi.hints import Hints
from gothreads.wasi.log_lines import LOGGERS, Logger
from gothreads.wasi.network_rules import Rule, allowed_address, listening_address
from gothreads.wasi.settings import Mount, WasiSettings
from gothreads.wasi.simulation import check_seed
from gothreads.wasi.streams import Readable, Writable
from gothreads.wasm.layout import MOST_MEMORY

if TYPE_CHECKING:
    import asyncio

PathLike = str | os.PathLike[str]

#: Default for how long `gothreads serve` lets requests in flight finish after SIGTERM or Ctrl-C, in seconds.
DRAIN_SECONDS = 10.0
#: Threads that Go may need beyond one per proc: the monitor, main while it initialises, Ms that wait or wake others.
SPARE_THREADS = 6
#: Upper bound for GOMAXPROCS: each P costs memory, and no machine has so many processors.
MOST_PROCS = 1024
#: The smallest limits on memory and on the stack, in bytes.
LEAST_MEMORY, LEAST_STACK = 1 << 16, 1 << 18

#: What to do when all calls wait for ever: log it, end the app, or call a function with the gothreads.Stall.
OnStall = Literal["report", "exit"] | Callable[[Any], None]


def available_processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Limits:
    """What a module may use.

    Where Go can report a refusal as an error of its own, it does; otherwise the module is ended, with LimitExceeded.

    memory: in bytes; beyond it Go is out of memory. In a pool, the limit of each instance.
    threads: Go's threads (Ms) at one time; beyond it Go's runtime ends the module ("no thread left").
    stack: WebAssembly's stack of each thread, in bytes; beyond it the module traps. (With threads, Go's own limit ends
        recursion: debug.SetMaxStack.)
    files: open files and sockets at one time, in a pool of all instances together; beyond it opening fails (EMFILE).
        None: most of what this process may open.
    output: bytes that it writes to its standard output and error, in all; beyond it the module is ended.
    seconds: since it was opened; after that the module is ended.
    """

    memory: int = MOST_MEMORY
    threads: int = 512
    stack: int = 6 << 20
    files: int | None = None
    output: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("memory", self.memory), ("threads", self.threads), ("stack", self.stack)):
            if not isinstance(limit, int) or isinstance(limit, bool):
                raise MisuseError(f"the limit on {name} must be an int, not {cut(limit)}")
        if not LEAST_MEMORY <= self.memory <= MOST_MEMORY:
            raise MisuseError(f"the limit on memory must be between 64 KiB and 3.75 GiB, not {as_size(self.memory)}")
        if self.threads < SPARE_THREADS + 1:
            raise MisuseError(f"Go needs at least {SPARE_THREADS + 1} threads, the limit is {cut(self.threads)}")
        if not LEAST_STACK <= self.stack <= 1 << 30:
            raise MisuseError(f"the limit on stack must be between 256 KiB and 1 GiB, not {as_size(self.stack)}")
        for name, value, least in (("files", self.files, 3), ("output", self.output, 0)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise MisuseError(f"the limit on {name} must be a whole number of at least {least}, not {cut(value)}")
        check_seconds("the limit on seconds", self.seconds, above_zero=True)


# The checks of single options. Those that depend on others, or on the module, are in `resolve`.

def _check_args(name: str, value: object) -> None:
    if not _is_list_of_str(value):
        raise MisuseError(f"{name} must be a list of str, not {cut(value)}")


def _check_env(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(
            isinstance(variable, str) and variable and "=" not in variable and isinstance(text, str)
            for variable, text in value.items()):
        raise MisuseError(f"{name} must be a dict of str to str, with names that have no '=', not {cut(value)}")


def _check_addresses(name: str, value: object) -> None:
    if not _is_list_of_str(value):
        raise MisuseError(f"{name} must be a list of addresses, not {cut(value)}")


def _check_limits(name: str, value: object) -> None:
    if not isinstance(value, Limits):
        raise MisuseError(f"{name} must be gothreads.Limits(...), not {cut(value)}")


def _check_stdin(name: str, value: object) -> None:
    if not isinstance(value, bytes) and not hasattr(value, "read"):
        raise MisuseError(f"{name} must be bytes or a file object, not {cut(value)}")


def _check_output(name: str, value: object) -> None:
    if not hasattr(value, "write") and not isinstance(value, LOGGERS):
        raise MisuseError(f"{name} must be a file object or a logging.Logger, not {cut(value)}")


def _check_progress(name: str, value: object) -> None:
    if not isinstance(value, bool) and not callable(value):
        raise MisuseError(f"{name} must be None, False, True or a function, not {cut(value)}")


def _check_trust(name: str, value: object) -> None:
    if not isinstance(value, bool | str):
        raise MisuseError(f"{name} must be True, False or a file's digest, not {cut(value)}")


def _check_above_zero(name: str, value: object) -> None:
    check_seconds(name, value, above_zero=True)


def _is_list_of_str(value: object) -> bool:
    return (isinstance(value, Sequence) and not isinstance(value, str | bytes)
            and all(isinstance(text, str) for text in value))


def _mounts(mounts: Mapping[str, PathLike] | Sequence[Mount]) -> list[Mount]:
    """The option `mounts` as a list. MisuseError: an invalid one."""
    try:
        given = (list(mounts) if not isinstance(mounts, Mapping) else
                 [Mount(Path(host), guest) for guest, host in mounts.items()])
        folders = [replace(mount, host=Path(mount.host)) for mount in given]
    except (TypeError, AttributeError):
        raise MisuseError(f'mounts must be a dict such as {{"/data": "./data"}}, or a list of gothreads.Mount, '
                          f"not {cut(mounts)}") from None
    for mount in folders:
        if not isinstance(mount.guest, str) or not mount.guest.startswith("/"):
            order = "" if isinstance(mounts, Mapping) else ". The host's path comes first: Mount(host, guest)"
            raise MisuseError(f"a mount's path in the module must begin with a slash, not {cut(mount.guest)}{order}")
    return folders


class OptionsWithoutImports(TypedDict, total=False):
    """Those of `gothreads.open` that have the same type for all modules. Stubs of packages add `imports`.

    For how they are defined, see runtime/keywords.py.
    """

    args: Annotated[Sequence[str], Option((), "the program's arguments, os.Args[1:] in Go", check=_check_args)]
    env: Annotated[Mapping[str, str] | None, Option(
        None, "the environment variables of the module", "Nothing is inherited from this process.", check=_check_env)]
    mounts: Annotated[Mapping[str, PathLike] | Sequence[Mount], Option((), "folders that the module may use", """
        As {"/in/the/module": "on/this/machine"} or as `gothreads.Mount`s, which can also be single read-only files.
        The module sees nothing else, except the parent folders of the mounts.
        """, check=lambda _, value: _mounts(value))]
    procs: Annotated[int | None, Option(
        None, "GOMAXPROCS (default: the number of available processors)", check=whole(1, MOST_PROCS))]
    callers: Annotated[int, Option(64, "how many threads may be in calls at the same time", check=whole(1))]
    callers_timeout: Annotated[float | None, Option(
        None, "how many seconds other calls wait for their turn (default: without limit)", "Then they get CallersBusy.",
        check=check_seconds)]
    limits: Annotated[Limits | None, Option(
        None, "what the module may use", "See `gothreads.Limits`.", check=_check_limits)]
    stdin: Annotated[Readable | bytes | None, Option(
        None, "standard input: bytes, or a file object of text or bytes (default: this process's)", check=_check_stdin)]
    stdout: Annotated[Writable | Logger | None, Option(
        None, "standard output: a file object of text or bytes, or a logger (default: this process's)",
        "A `logging.Logger` gets a record for each line, at level INFO; one of standard error's, at WARNING.",
        check=_check_output)]
    stderr: Annotated[Writable | Logger | None, Option(
        None, "standard error: like standard output (default: this process's)", check=_check_output)]
    stall_timeout: Annotated[float | None, Option(
        None, "how many seconds nothing in the module can make progress before it counts as stalled", """
        That is, all calls in the module have waited this long and nothing can wake them: there is no runnable
        goroutine, no timer or ticker, no host call, and nothing waits for a peer. (Stock Go ends the program by
        itself.)
        """, check=_check_above_zero)]
    on_stall: Annotated[OnStall, Option(
        "report", "what to do, once, when the module has stalled: report: log all stacks; exit: end it",
        "With \"exit\", all calls raise Stalled. A function is called with the `gothreads.Stall`.",
        check=one_of("report", "exit", function=True))]
    listen: Annotated[Sequence[str], Option((), """
        addresses to listen on for the module, which gets the sockets from net.Listen or guest.Listener:
        HOST:PORT (port 0: any free port; no HOST: 127.0.0.1), unix:PATH, or fd:N, a socket that listens already
        """, "See `App.listening`.", check=_check_addresses)]
    allow_net: Annotated[Sequence[str], Option((), """
        what the module itself may dial and listen on (stock Go: guest.Dial and guest.Listen): HOST:PORT, where each
        part may be *, or unix:PATH. Where other machines can connect, it may listen only on an address that is
        named, such as 0.0.0.0:8080 (default: nothing)
        """, """
        With a rule for a host, the module may also read this machine's certificates of authorities (SSL_CERT_FILE).
        """, check=_check_addresses)]
    host: Annotated[Host | Functions | None, Option(None, "the Python functions that the module may import", """
        As {"env": {"log": function}} for Go's //go:wasmimport env log, or a `gothreads.Host`. They take and return
        ints, floats, bools and str (or bytes, where annotated so), as declared in Go; a parameter annotated
        `gothreads.Context` receives the app and its memory. Each runs on the thread that calls it, so several may run
        at once. An exception in one ends the app (HostFunctionError). They may call the app's exports. Mismatches are
        reported before anything runs.
        """, check=lambda _, value: given_functions(value))]
    handlers: Annotated[Mapping[str, Handler] | None, Option(
        None, "functions that the module calls by name, with guest.Call and guest.Notify", """
        They take the payload (bytes) and return bytes (or another buffer), str, None or a Future; or they are
        coroutine functions. An exception becomes an error in Go. Plain functions run on the app's threads, up to
        `callers` at once; coroutines run on `loop`.
        """, check=lambda _, value: given_handlers(None, value))]
    event_queue: Annotated[int, Option(
        1024, "how many events of each name may be queued for the module", "See `App.signal`.", check=whole(1))]
    loop: Annotated["asyncio.AbstractEventLoop | None", Option(
        None, "the event loop for handlers that are coroutines (default: one that the app creates)")]
    instances: Annotated[int | None, Option(
        None, "how many instances a pool has (default: the number of available processors)", check=whole(1))]
    model: Annotated[str | None, Option(
        None, "how the module runs: docs/models.md (default: as it was built; a package: threaded)", """
        "threaded" (keeps running, on threads); "single" (stock Go: one call at a time, suspended between calls);
        "idle" (like "single", but what a call starts runs until every goroutine waits); "pool" (like "single", in
        several isolated `instances`). A package is built for the model; a file built for "single" also runs as "idle"
        or "pool".
        """)]
    go: Annotated[PathLike | None, Option(None, "the go command to build with")]
    optimize: Annotated[bool, Option(default=False, check=check_bool, help="build a package to run faster; the module "
                                     "is larger, and takes longer to build and to compile (docs/performance.md)")]
    perf: Annotated[bool, Option(default=False, check=check_bool, help="write where each Go function is to "
                                 "/tmp/perf-PID.map, for Linux's profiler perf (docs/profiling.md)")]
    simulate: Annotated[int | None, Option(
        None, "a seed that decides about time, random numbers and what runs next: the same seed gives the same run. "
        "For packages, which are built for it (docs/testing.md)", """
        `main` runs, in stock Go, on one thread; the app takes no calls. When all goroutines wait for a timer, it
        expires at once. Files, standard input and host functions are not simulated.
        """, check=check_seed)]
    progress: Annotated[bool | Progress | None, Option(
        None, "where to show the progress of building and compiling (default: on a terminal or in a notebook)", """
        True: always on standard error. False: only in the log, which otherwise shows what takes long where nobody sees
        standard error. Or a function, which is called with (stage, done, total), possibly on another thread: "build"
        counts packages, "tools" those of a Go program that gothreads needs, "optimize" functions; "compile" counts
        seconds, of an estimate or None; "wait" those while another process builds the same program. When a stage ends,
        done equals total.
        """, check=_check_progress)]
    trust: Annotated[Trust, Option(default=False, help="""
        the digest of a file with machine code (gothreads compile -o), which is opened only with it: machine code can
        do whatever this process can
        """, more="True trusts the file whatever it contains.", check=_check_trust)]


class OpenOptions(OptionsWithoutImports, total=False):
    """The options of `gothreads.open`."""

    imports: Annotated[Mapping[str, Any] | None, Option(
        None, "what implements the variables that Go marks with //gothreads:import", """
        As {"prices": Prices()}: a function for a func, and an object with Go's methods for an interface, or its class,
        of which each app makes one object. Names and types are those of Go, as for typed functions; what does not fit
        is reported before anything runs. They run as handlers do.
        """, check=lambda _, value: given_imports(None, value))]


class LoadedOptions(OpenOptions, total=False):
    """The options of `open_loaded`."""

    no_calls: Annotated[bool, Option(
        default=False, help="exports will not be called, so a stall is detected without any call")]
    main_calls: Annotated[bool, Option(
        default=True, help="calls may come on the main thread, whose signal handlers then run in the middle of them")]
    listeners: Annotated[Listeners | None, Option(
        None, "listeners for the addresses of `listen` that stay open when the app ends (default: they do not)")]
    hints: Annotated[Hints | None, Option(
        None, "the hints that were given already, to an instance before this one (default: none were)")]
    instead_of_stacks: Annotated[str | None, Option(
        None, "a line in place of the stacks that Go writes when memory has run out, but for the first (default: all)")]


@dataclass(frozen=True)
class Options:
    """How to run a module: the options of `open`, checked, and completed with what their defaults stand for."""

    wasi: WasiSettings
    procs: int
    callers: int
    callers_timeout: float | None
    limits: Limits
    stdin: Readable | bytes | None
    stdout: Writable | Logger | None
    stderr: Writable | Logger | None
    stall_timeout: float | None
    on_stall: OnStall
    no_calls: bool
    main_calls: bool
    instead_of_stacks: str | None
    listen: tuple[str, ...]
    listeners: Listeners | None
    allow_net: tuple[Rule, ...]
    handlers: Mapping[str, Handler]
    imports: Mapping[str, Any]
    event_queue: int
    loop: "asyncio.AbstractEventLoop | None"
    instances: int  # in a pool
    perf: bool
    host: Mapping[tuple[str, str], Callable[..., Any]]  # by module and name


def _check_simulated(loaded: LoadedModule, options: Mapping[str, Any], handlers: Mapping[str, Handler]) -> None:
    """MisuseError if the module cannot be simulated, or only be simulated."""
    if options["simulate"] is None:
        if loaded.simulated:
            raise MisuseError(f"{loaded.name} was built to be simulated: it needs a seed, simulate=SEED (--simulate)")
        return
    if not loaded.simulated:
        raise MisuseError(f"{loaded.name} was not built to be simulated. simulate= (--simulate) is for packages, which "
                          "are built for it")
    given = {"handlers": handlers, **{name: options[name] for name in ("imports", "listen", "allow_net")}}
    if outside := [name for name, value in given.items() if value]:
        raise MisuseError(f"with simulate= (--simulate), a run depends on nothing outside: leave out "
                          f"{' and '.join(outside)}")


def resolve(loaded: LoadedModule, given: LoadedOptions) -> Options:
    """Check the options for this module. MisuseError: one is wrong."""
    options = complete("open()", LoadedOptions, given)
    if options["on_stall"] != "report" and options["stall_timeout"] is None:
        raise MisuseError("on_stall (--on-stall) needs stall_timeout (--stall-timeout S): how long nothing must go on")
    handlers = given_handlers(options["host"], options["handlers"])
    if handlers and not loaded.has_messages:
        why = "was not built from Go" if loaded.foreign else "does not import gothreads/guest"
        raise MisuseError(f"{loaded.name}: handlers are given ({cut(', '.join(handlers))[1:-1]}), "
                          f"but the module {why}, so it calls none")
    _check_simulated(loaded, options, handlers)
    listen = tuple(options["listen"])
    for address in listen:
        listening_address(address)  # raises MisuseError
    # The convention of systemd. The process is what Go's os.Getpid says.
    sockets = {"LISTEN_FDS": str(len(listen)), "LISTEN_PID": "3"} if listen else {}
    rules = tuple(map(allowed_address, options["allow_net"]))
    env, mounts = {**(options["env"] or {}), **sockets}, _mounts(options["mounts"])
    if not all(rule.is_unix for rule in rules):
        env, mounts = with_authorities(env, mounts)
    if "GOMAXPROCS" in env and not loaded.threaded:
        env["GOMAXPROCS"] = "1"  # with more, stock Go needs threads: "newosproc: not implemented"
    options |= {
        "wasi": WasiSettings(args=[loaded.name.encode(errors="replace").decode(), *options["args"]], env=env,
                             mounts=mounts, hints=options["hints"] or Hints(loaded.name), simulate=options["simulate"]),
        "procs": options["procs"] or available_processors(),
        "limits": options["limits"] or Limits(),
        "listen": listen,
        "allow_net": rules,
        "handlers": handlers,
        "imports": given_imports(options["host"], options["imports"]),
        "instances": options["instances"] or available_processors(),
        "host": given_functions(options["host"]),
    }
    return Options(**{field.name: options[field.name] for field in fields(Options)})
