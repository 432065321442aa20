"""The command `gothreads`: one function from arguments to an exit code.

    init     start a new program, or make the guest package known to editors
    build    build a Go package into a module
    run      run a module's main
    call     call one export or handler
    inspect  describe a module
    doctor   check this machine
    compile  make a module's machine code beforehand
    cache    show how large the cache is, or empty it
    serve    serve a module over HTTP
    compare  compare the designs
    stress   run scenarios that try to break it
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO, TypeVar

from gothreads.bridge.host_registry import load_host
from gothreads.build.builder import Request, build
from gothreads.build.guest import init
from gothreads.build.toolchain import find_go
from gothreads.cli import cache, compile
from gothreads.cli.doctor import examine
from gothreads.cli.go_test import EXEC_HELP, EXEC_LIMITS, TEST_HELP, exec_options, load_linked, machine_environment, machine_mounts, test
from gothreads.cli.parser import Command, parse, parse_environment, parse_limits, parse_mount, parse_size
from gothreads.errors import CallTimeout, CompileError, GothreadsError, GuestError, GuestExit, MisuseError, ModuleError, NotCallable, unknown
from gothreads.files import write_atomically
from gothreads.launch import CALLERS, LoadedOptions, find, open_loaded
from gothreads.requirements import lacking
from gothreads.runtime import exit_reasons
from gothreads.runtime.app import App
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.lifecycle import close_all
from gothreads.runtime.module_file import LoadedModule, load
from gothreads.supervise.app import Supervised
from gothreads.supervise.restarts import Restart, RestartPolicy, WhileDown
from gothreads.terminal import Handler, Terminal
from gothreads.text import shown
from gothreads.tools.stress.command import stress
from gothreads.wasi.definitions import Mount
from gothreads.wasi.streams import Writable
from gothreads.wasm.binary import PAGE
from gothreads.wasm.origins import made_for

#: A shell's exit code for a process that SIGINT ended.
INTERRUPTED = 128 + signal.SIGINT
#: The exit code of timeout(1) at a timeout.
TIMED_OUT = 124
#: A shell's exit code for a process that SIGTERM ended.
STOPPED = 128 + signal.SIGTERM

T = TypeVar("T")

#: The longest single wait, in seconds: so a signal is not missed for longer.
_SLICE_SECONDS = 0.2
#: How long requests wait for a new instance, in seconds, before they get 503.
_DOWN_SECONDS = 10.0
#: How long `run` waits before it checks whether main does anything, in seconds.
_IDLE_SECONDS = 2.0


class _Stop(BaseException):
    """Raised on SIGTERM."""


def run() -> NoReturn:
    """The console script."""
    code = main()
    try:
        sys.stdout.flush()
    except OSError:  # main has reported it; do not let Python report it again at shutdown
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code in (INTERRUPTED, STOPPED):  # a module may still be compiling, on a thread that cannot be stopped
        close_all()  # an app may be open that the command has not received yet
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run a command; returns its exit code. The module's own output goes to the process's descriptors."""
    terminal = Terminal(stdout, stderr)
    try:
        with contextlib.redirect_stdout(terminal.stdout), contextlib.redirect_stderr(terminal.stderr):
            arguments = _arguments(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as error:  # argparse has printed the error
        return int(error.code or 0)
    if note := getattr(arguments, "note", None):
        terminal.say(note)
    handler = Handler(terminal)
    logger = logging.getLogger("gothreads")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.WARNING if getattr(arguments, "quiet", False) else logging.INFO)
    previous = signal.signal(signal.SIGTERM, _raise_stop) if threading.current_thread() is threading.main_thread() else None
    try:
        command: Callable[[argparse.Namespace, Terminal], int] = arguments.command
        code = command(arguments, terminal)
        terminal.stdout.flush()
        return code
    except GothreadsError as error:
        if getattr(arguments, "json", False):
            with contextlib.suppress(OSError):
                terminal.data({"error": getattr(error, "message", str(error)), "kind": type(error).__name__})
        return _failed(error, terminal)
    except KeyboardInterrupt:
        return INTERRUPTED
    except _Stop:
        return STOPPED
    except BrokenPipeError:
        return 1
    except OSError as error:
        terminal.say(f"cannot write the output: {error.strerror}")
        return 1
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
        terminal.clear()
        logger.removeHandler(handler)
        logger.setLevel(level)


def _failed(error: GothreadsError, terminal: Terminal) -> int:
    """Report the error; returns the exit code (parser.EXIT_CODES)."""
    match error:
        case CompileError():
            terminal.raw(error.output)
            terminal.say(error.message)
            return 1
        case GuestExit():
            if error.code == 0:
                terminal.say(main_returned(error))
            return error.code or 1  # the module itself has written the rest to stderr
        case GuestError():
            terminal.say(str(error))
            return error.code
        case _:
            terminal.say(str(error))
            return TIMED_OUT if isinstance(error, CallTimeout) else 1


def main_returned(error: GuestExit) -> str:
    """The message for a module that was to be called, but has ended without an error."""
    return f"{error.message}, so it takes no calls. End main with select {{}}, or build with --buildmode c-shared, which does not run it"


def _arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line. SystemExit if it is wrong."""
    if argv[:1] in (["test"], ["go-exec"]):  # others parse the rest
        return _passed_on(argv[0], argv[1:])
    return parse(_COMMANDS, argv)


def _build(arguments: argparse.Namespace, terminal: Terminal) -> int:
    built = build(Request(arguments.package, arguments.model or "threaded", arguments.buildmode, arguments.go, arguments.strip,
                          not arguments.no_preemption, arguments.sharpen, tuple(arguments.args)), terminal.progress)
    output = Path(arguments.output or f"{_package_name(arguments.package)}.wasm")
    content = built.path.read_bytes()
    write_atomically(output, content)
    if arguments.json:
        terminal.data({"file": str(output), "bytes": len(content), "go": built.toolchain.version, "toolchain": str(built.toolchain.go),
                       "found": built.toolchain.found, "model": built.metadata.model, "buildmode": built.metadata.buildmode, "cached": built.cached,
                       "seconds": round(built.seconds, 3), "exports": [e.name for e in built.metadata.exports]})
    else:
        how = "unchanged, " if built.cached else ""
        terminal.say(f"{output}: {len(content) / 1e6:.1f} MB, {built.metadata.model}, {built.toolchain}, {how}{built.seconds:.1f} s")
    return 0


def _init(arguments: argparse.Namespace, terminal: Terminal) -> int:
    folder = Path(arguments.folder)
    written = init(folder, find_go(arguments.go))
    terminal.say(f"{folder}: wrote {', '.join(written)}. Try: gothreads serve {folder}")
    return 0


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with _open_or_supervise(arguments, terminal, callers=CALLERS, model=arguments.model) as app:
        if app.loaded.entry != "_start":
            if app.loaded.foreign:
                raise ModuleError(f"{arguments.module} has no main (_start), so there is nothing to run. Call its exports: gothreads call")
            raise ModuleError(f"{arguments.module} was built without main (--buildmode c-shared), so there is nothing to run. "
                              "Build it with --buildmode exe, or call its exports: gothreads call")
        return _aside(lambda: _wait(app, arguments.module, terminal))


def _wait(app: App | Supervised, module: str, terminal: Terminal) -> int:
    """Wait for main to end. If main only waits for ever, as in modules that are to be called, say so, once."""
    with contextlib.suppress(TimeoutError):
        return _ended(app, app.wait(_IDLE_SECONDS), terminal)
    with contextlib.suppress(TimeoutError, GothreadsError):
        if app.model == "threaded" and not app.loaded.foreign and _only_to_be_called(app.goroutines(_IDLE_SECONDS)):
            terminal.say(f"main does nothing but wait (select {{}}). To call what {module} has: gothreads serve {module}")
    return _ended(app, app.wait(), terminal)


def _ended(app: App | Supervised, code: int, terminal: Terminal) -> int:
    """Returns the exit code, after adding advice that Go itself cannot give."""
    if isinstance(app.error, GuestError) and (hint := exit_reasons.advice(app.error.stderr)):
        terminal.say(hint)
    return code


def _only_to_be_called(goroutines: Sequence[Goroutine]) -> bool:
    """Whether main waits for ever and is the only goroutine (apart from the guest package's)."""
    own = [goroutine for goroutine in goroutines if "created by gothreads/guest." not in goroutine.stack]
    return [goroutine.state.partition(",")[0] for goroutine in own] == ["select (no cases)"]


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stop


def _call(arguments: argparse.Namespace, terminal: Terminal) -> int:
    texts, arguments.args = tuple(arguments.args), []
    # Standard output is for the result; the output of main goes to standard error.
    with open(2, "wb", buffering=0, closefd=False) as errors, \
            _open(arguments, terminal, callers=2, model=arguments.model, stdout=errors) as app:
        name = arguments.export
        if name in app.exports:
            target = app.exports[name]
            parsed = target._export.parse(texts)
            timed = {"timeout": arguments.timeout}
            if arguments.bytes:
                _write_bytes(_aside(lambda: target.bytes(*parsed, **timed)), arguments, terminal)
                return 0
            result = _aside(lambda: target(*parsed, **timed))
            if arguments.json:
                terminal.data(result)
            elif result is not None:
                terminal.out(str(result).lower() if isinstance(result, bool) else str(result))
            return 0
        handlers = _aside(lambda: app._listed(app._here_or_on_a_worker, name))
        if name in app.loaded.uncallable and name not in handlers:
            app.exports[name]  # raises the reason
        if name not in handlers:
            raise unknown("export or handler", name, [*app.exports, *handlers])
        if len(texts) > 1:
            raise MisuseError(f"the handler {name} takes one payload, {len(texts)} given")
        payload = _payload(texts[0] if texts else None)
        reply = _aside(lambda: app.request(name, payload, timeout=arguments.timeout))
        _write_bytes(reply, arguments, terminal)
        return 0


def _write_bytes(content: bytes, arguments: argparse.Namespace, terminal: Terminal) -> None:
    if arguments.json:
        terminal.data(content.decode(errors="replace"))
    elif hasattr(terminal.stdout, "buffer"):
        terminal.stdout.flush()
        terminal.stdout.buffer.write(content)
    else:
        terminal.stdout.write(content.decode(errors="replace"))


def _payload(text: str | None) -> bytes:
    if text is None and sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read() if text in (None, "-") else os.fsencode(text or "")


def _aside(work: Callable[[], T]) -> T:
    """Run on another thread, and wait: Python handles Ctrl-C only while its main thread is outside the module's code.

    The wait is in slices, because Python can miss a signal that arrives just before a wait begins.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
    threading.Thread(target=run, name="gothreads-command", daemon=True).start()
    while not future.done():
        wait((future,), _SLICE_SECONDS)
    return future.result()


def _passed_on(name: str, argv: list[str]) -> argparse.Namespace:
    """The commands that parse their own arguments."""
    if (argv[:1] in (["-h"], ["--help"])) or (name == "go-exec" and not argv):
        print(TEST_HELP if name == "test" else EXEC_HELP)
        raise SystemExit(0 if argv else 2)
    run = test if name == "test" else _go_exec
    return argparse.Namespace(command=lambda _arguments, _terminal: run(argv), quiet=name == "go-exec")


def _go_exec(argv: Sequence[str]) -> int:
    """`gothreads go-exec`: the -exec command of go test."""
    sharpen, (file, *args) = exec_options(argv)
    with open_loaded(load_linked(Path(file), sharpen), args=args, env=machine_environment(), mounts=machine_mounts(), limits=EXEC_LIMITS, callers=1,
                     no_calls=True) as app:
        return _aside(app.wait)


def _inspect(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if os.path.isdir(arguments.module):  # not Path.is_dir, which raises for names that are too long
        raise ModuleError(f"{arguments.module} is a folder; build it, and look at the module: gothreads build {arguments.module} -o app.wasm")
    loaded = load(Path(arguments.module))
    about = describe(loaded)
    if arguments.json:
        terminal.data(about)
        return 0
    built = f"built by gothreads {about['gothreads']} with {about['go']}" if loaded.metadata else "not built by gothreads"
    terminal.out(f"{arguments.module}: {about['bytes'] / 1e6:.1f} MB, {about['model']}, {about['buildmode']}, {built}")
    if about["made_for"]:
        terminal.out(f"built for {about['made_for']}")
    if isinstance(seed := about["options"].get("sharpen"), int):
        terminal.out(f"races sharpened with seed {seed}: for tests, it is slow")
    terminal.out(f"memory: {loaded.memory.minimum * PAGE / 1e6:.1f} MB to start" if loaded.memory else "memory: none")
    terminal.out("exports:" if loaded.exports else "exports: none")
    for export in loaded.exports:
        terminal.out(f"  {export.signature.declaration}")
        for line in export.signature.doc.strip().splitlines():
            terminal.out(f"      {line}")
    for name, why in loaded.uncallable.items():
        if name != "memory":  # nearly all modules export one, for WASI
            terminal.out(f"cannot be called: {shown(name)}: {why}")
    for declared in about["host"]:
        terminal.out(f"wants from Python: {declared['module']}.{declared['name']}: {declared['go']}")
    terminal.out("imports: " + (", ".join(f"{module} ({len(names)})" for module, names in sorted(about["imports"].items())) or "none"))
    return 0


def describe(loaded: LoadedModule) -> dict[str, Any]:
    """Describe a module, in types that JSON has."""
    imports: dict[str, list[str]] = {}  # functions only: the memory is listed separately
    for imported in loaded.outline.imported_functions:
        imports.setdefault(imported.module, []).append(imported.name)
    about = loaded.metadata
    return {
        "bytes": len(loaded.wasm), "model": loaded.model, "entry": loaded.entry,
        "buildmode": about.buildmode if about else ("exe" if loaded.entry == "_start" else "c-shared"), "foreign": loaded.foreign,
        "made_for": made_for(loaded.outline),
        "gothreads": about.version if about else None, "go": about.go if about else None, "options": dict(about.options) if about else {},
        "handlers": bool(about and about.handlers),
        "memory": loaded.memory and {"minimum": loaded.memory.minimum * PAGE, "maximum": loaded.memory.maximum and loaded.memory.maximum * PAGE},
        "exports": [asdict(export.signature) for export in loaded.exports], "uncallable": dict(loaded.uncallable), "imports": imports,
        "host": [asdict(s) for s in about.imports if s.name in imports.get(s.module, ())] if about else [],
    }


def _serve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if (problem := lacking("serve")) is not None:
        raise GothreadsError(problem)
    from gothreads.serve.server import serve
    if arguments.restart is None and (arguments.save_every is not None or arguments.while_down != "wait"):
        raise MisuseError("--save-every and --while-down are for a module that is begun again: add --restart")
    return serve(lambda: _open_or_supervise(arguments, terminal, callers=arguments.callers, model=arguments.model, callers_timeout=30.0),
                 terminal, host=arguments.host, port=arguments.port, allowed=arguments.allow_host,
                 drain=arguments.drain, timeout=arguments.timeout, on_timeout=arguments.on_timeout,
                 largest_json=parse_size(arguments.json_limit, "--json-limit "))


def _raise_file_limit() -> None:
    """Raise the soft limit on open files, as Go programs do at start: the soft limit is for users of select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open(arguments: argparse.Namespace, terminal: Terminal, *, callers: int, model: str | None, callers_timeout: float | None = None,
          stdout: Writable | None = None) -> App:
    loaded, options = _options(arguments, terminal, callers=callers, model=model, callers_timeout=callers_timeout, stdout=stdout)
    return _said_where(_aside(lambda: open_loaded(loaded, **options)), terminal)


def _open_or_supervise(arguments: argparse.Namespace, terminal: Terminal, *, callers: int, model: str | None,
                       callers_timeout: float | None = None) -> App | Supervised:
    """Open the module, under supervision with --restart."""
    if arguments.restart is None:
        return _open(arguments, terminal, callers=callers, model=model, callers_timeout=callers_timeout)
    loaded, options = _options(arguments, terminal, callers=callers, model=model, callers_timeout=callers_timeout)

    def tell(restart: Restart) -> None:
        terminal.say(str(restart))
    policy = RestartPolicy(arguments.restart, save_every=getattr(arguments, "save_every", None), on_restart=tell)
    while_down: WhileDown = getattr(arguments, "while_down", "wait")
    return _said_where(_aside(lambda: Supervised(loaded, options, policy,
                                                 while_down=while_down, wait_timeout=_DOWN_SECONDS)), terminal)


_Opened = TypeVar("_Opened", App, Supervised)


def _said_where(app: _Opened, terminal: Terminal) -> _Opened:
    for address in app.listening:
        terminal.say(f"listening on {address}")
    return app


def _options(arguments: argparse.Namespace, terminal: Terminal, *, callers: int, model: str | None, callers_timeout: float | None = None,
             stdout: Writable | None = None) -> tuple[LoadedModule, LoadedOptions]:
    """The module, and its options for open_loaded."""
    if arguments.go:
        os.environ["GOTHREADS_GO"] = arguments.go
    # To run its main in stock Go, a package must be built as a program.
    loaded = find(arguments.module, model=model, trust=compile.trusted(arguments.trust), progress=terminal.progress,
                  buildmode="exe" if model == "single" and arguments.command is _run else None)
    terminal.clear()
    if arguments.command is not _run and loaded.entry == "_start" and (loaded.foreign or loaded.model == "single"):
        why = "" if loaded.foreign else " on one thread (build it with --model threaded, or --buildmode c-shared)"
        raise NotCallable(f"{arguments.module} is a program, which takes no calls{why}. Run it: gothreads run {arguments.module}")
    env = parse_environment(arguments.env)
    mounts = [parse_mount(text) for text in arguments.mount]
    if not arguments.no_mount_args:
        mounts += _argument_mounts(arguments.args, mounts, terminal)
    env.setdefault("PWD", os.getcwd())
    for text in (*arguments.args, *env.values()):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MisuseError(f"{text!r} is not UTF-8, which is all that a module's arguments and environment may be")
    limits = parse_limits(arguments.memory, arguments.limit)
    host = load_host(arguments.python) if arguments.python else None
    _raise_file_limit()
    return loaded, LoadedOptions(
        args=arguments.args, env=env, mounts=mounts, procs=arguments.procs, callers=callers, callers_timeout=callers_timeout, limits=limits, stdout=stdout,
        stall_timeout=getattr(arguments, "stall_timeout", None), on_stall=getattr(arguments, "on_stall", "report"),
        listen=getattr(arguments, "listen", ()), allow_net=arguments.allow_net, model=model, host=host,
        instances=getattr(arguments, "instances", None), no_calls=arguments.command is _run)


def _argument_mounts(args: Sequence[str], mounts: Sequence[Mount], terminal: Terminal) -> list[Mount]:
    """Mounts, read-only and under the same path, for files and folders that are named as arguments."""
    named = list(dict.fromkeys(Path(os.path.abspath(arg)) for arg in args))
    found = [Mount(path, str(path), read_only=True) for path in named if os.path.isdir(path) and path != Path("/") and not _covered(path, mounts)]
    found += [Mount(path, str(path), read_only=True) for path in named if os.path.isfile(path) and not _covered(path, [*mounts, *found])]
    for mount in found:
        terminal.say(f"the module may read {mount.host} (--no-mount-args: it may not)")
    return found


def _covered(path: Path, mounts: Sequence[Mount]) -> bool:
    """Whether a mount already covers this path in the module."""
    return any(path.is_relative_to(mount.guest) for mount in mounts)


def _package_name(package: str) -> str:
    path = Path(package)
    if path.suffix == ".go":
        return path.stem
    return path.resolve().name if os.path.isdir(path) else package.rstrip("/").rsplit("/", 1)[-1]


def _doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    return examine(terminal, as_json=arguments.json)


def _compare(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run `compare`. GothreadsError if the extra is missing."""
    if (problem := lacking("compare")) is not None:
        raise GothreadsError(problem)
    from gothreads.tools.compare.command import run
    return run(arguments, terminal)


_COMMANDS: dict[str, Command] = {"build": _build, "init": _init, "run": _run, "call": _call, "inspect": _inspect, "doctor": _doctor, "serve": _serve,
                                 "cache": cache.run, "compile": compile.run, "compare": _compare, "stress": stress}
