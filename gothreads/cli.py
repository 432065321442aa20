"""The command `gothreads`: one function from arguments to an exit code.

    build    a Go package into a module       run     a module's main
    inspect  what a module is                 call    one export, or one handler
    serve    a module over HTTP
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from gothreads.app import App, Limits
from gothreads.build.builder import Request, build
from gothreads.errors import CompileError, GothreadsError, GuestError, GuestExit, MisuseError, unknown
from gothreads.exports import parse_text
from gothreads.files import write_atomically
from gothreads.host.wasi import Mount
from gothreads.loading import LoadedModule, load
from gothreads.opening import CALLERS, find, open_loaded
from gothreads.terminal import Handler, Terminal
from gothreads.version import __version__
from gothreads.wasm.metadata import BUILD_MODES, MODELS

#: What a shell says of a process that ended by SIGINT.
INTERRUPTED = 130

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class _Stop(BaseException):
    """SIGTERM came."""


def run() -> NoReturn:
    """The console script."""
    # Kept from Python's shutdown: whoever reads our output may be gone.
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def main(argv: Sequence[str] | None = None, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run a command. What the module itself prints goes to the process's own descriptors."""
    terminal = Terminal(stdout, stderr)
    parser = _parser()
    argv = list(sys.argv[1:] if argv is None else argv)
    argv, rest = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    arguments.rest = rest
    handler = Handler(terminal)
    logger = logging.getLogger("gothreads")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        command: Callable[[argparse.Namespace, Terminal], int] = arguments.command
        return command(arguments, terminal)
    except CompileError as error:
        terminal.raw(error.output)
        terminal.say(str(error))
        return 1
    except GuestExit as error:
        return error.code or 1  # what a process of its own would say is on stderr already
    except GuestError as error:
        terminal.say(str(error))
        return error.code
    except GothreadsError as error:
        terminal.say(str(error))
        return 1
    except KeyboardInterrupt:
        terminal.clear()
        return INTERRUPTED
    except _Stop:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        return 1
    finally:
        terminal.clear()
        logger.removeHandler(handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gothreads", description="Ordinary Go, compiled to WebAssembly, on many threads.",
                                     epilog="gothreads COMMAND --help has examples.")
    parser.add_argument("--version", action="version", version=f"gothreads {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, help_: str, examples: str, command: Callable[[argparse.Namespace, Terminal], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", epilog="examples:\n" + examples,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(command=command)
        return sub

    sub = add("build", "build a Go package into a module",
              "  gothreads build ./app -o app.wasm\n"
              "  gothreads build ./app --model single        stock Go, to compare with\n"
              "  gothreads build ./app -- -tags debug        flags for go build", _build)
    sub.add_argument("package", nargs="?", default=".", metavar="PACKAGE", help="a folder, an import path, or a .go file (default: this folder)")
    sub.add_argument("-o", dest="output", metavar="FILE", help="the module (default: the package's name with .wasm)")
    _add_build_options(sub)
    sub.add_argument("--buildmode", choices=BUILD_MODES, help="exe: main runs (default for threaded). c-shared: it does not (default for single)")
    sub.add_argument("--strip", action="store_true", help="leave out names; stack traces of traps then have numbers")
    sub.add_argument("--no-preemption", action="store_true", help="no checks in loops: tight loops are faster, but hold up garbage collection")
    sub.add_argument("--json", action="store_true", help="say what was built as JSON")

    sub = add("run", "run a module's main; the exit code is the module's",
              "  gothreads run app.wasm ARG…\n"
              "  gothreads run ./app --procs 4 --mount ./data:/data:ro -- -v /data", _run)
    sub.add_argument("module", metavar="FILE|PACKAGE")
    sub.add_argument("args", nargs="*", metavar="ARG", help="for the module; after -- when they begin with a dash")
    _add_build_options(sub)
    _add_run_options(sub)

    sub = add("call", "call one export, or one handler",
              "  gothreads call app.wasm add 2 3\n"
              "  gothreads call ./app search '{\"query\": \"go\"}'     a handler: the payload, or - for standard input", _call)
    sub.add_argument("module", metavar="FILE|PACKAGE")
    sub.add_argument("export", metavar="EXPORT|HANDLER")
    sub.add_argument("args", nargs="*", metavar="ARG", help="after -- when one begins with a dash")
    sub.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_build_options(sub)
    _add_run_options(sub)

    sub = add("inspect", "tell what a module is and exports", "  gothreads inspect app.wasm\n  gothreads inspect app.wasm --json", _inspect)
    sub.add_argument("module", metavar="FILE")
    sub.add_argument("--json", action="store_true", help="print as JSON")

    sub = add("serve", "run a module and serve its exports over HTTP",
              "  gothreads serve app.wasm\n"
              "  gothreads serve examples/searchd --port 8000 -- DIR\n"
              "  curl -d '{\"args\": [2, 3]}' localhost:8080/api/call/add", _serve)
    sub.add_argument("module", metavar="FILE|PACKAGE")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s; there is no authentication)")
    sub.add_argument("--port", type=int, default=8080, help="port to listen on; 0: any (default: %(default)s)")
    sub.add_argument("--callers", type=int, default=CALLERS, help="calls in the module at the same time (default: %(default)s)")
    _add_build_options(sub)
    _add_run_options(sub)
    return parser


def _add_build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, help="what to build a package for (default: threaded)")
    parser.add_argument("--go", metavar="PATH", help="the go command to build with")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--procs", type=int, metavar="N", help="GOMAXPROCS (default: the number of processors)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="a variable for the module; without =VALUE, this process's own")
    parser.add_argument("--mount", action="append", default=[], metavar="HOST:GUEST[:ro]", help="a folder that the module may use")
    parser.add_argument("--no-mount-args", action="store_true", help="do not make arguments that name folders readable to the module")
    parser.add_argument("--memory", metavar="SIZE", help="the most memory that the module may use, such as 512M (default: 4G)")


def _build(arguments: argparse.Namespace, terminal: Terminal) -> int:
    built = build(Request(arguments.package, arguments.model or "threaded", arguments.buildmode, arguments.go, arguments.strip,
                          not arguments.no_preemption, tuple(arguments.rest)), terminal.progress)
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


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    arguments.args += arguments.rest
    app = _open(arguments, terminal, callers=CALLERS, model=arguments.model)
    return _until_end(app, terminal)


def _until_end(app: App, terminal: Terminal) -> int:
    """Wait for the module's end, or a signal."""
    previous = signal.signal(signal.SIGTERM, _raise_stop) if threading.current_thread() is threading.main_thread() else None
    try:
        code = app.wait()
        if isinstance(app.error, GuestExit):
            return code
        return 0
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
        app.close()


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stop


def _call(arguments: argparse.Namespace, terminal: Terminal) -> int:
    arguments.args += arguments.rest
    texts, arguments.args = tuple(arguments.args), []
    with _open(arguments, terminal, callers=2, model=arguments.model) as app:
        name = arguments.export
        if name in app.exports:
            target = app.exports[name]
            result = target(*parse_text(target._export, texts))
            if arguments.json:
                terminal.data(result)
            elif result is not None:
                terminal.out(str(result).lower() if isinstance(result, bool) else str(result))
            return 0
        handlers = app.handlers()
        if name not in handlers:
            raise unknown("export or handler", name, [*app.exports, *handlers])
        if len(texts) > 1:
            raise MisuseError(f"the handler {name} takes one payload, {len(texts)} given")
        payload = sys.stdin.buffer.read() if texts in ((), ("-",)) else texts[0].encode()
        reply = app.request(name, payload)
        if arguments.json:
            terminal.data(reply.decode(errors="replace"))
        elif hasattr(terminal.stdout, "buffer"):
            terminal.stdout.flush()
            terminal.stdout.buffer.write(reply)
        else:
            terminal.stdout.write(reply.decode(errors="replace"))
        return 0


def _inspect(arguments: argparse.Namespace, terminal: Terminal) -> int:
    loaded = load(Path(arguments.module))
    about = describe(loaded)
    if arguments.json:
        terminal.data(about)
        return 0
    built = f"built by gothreads {about['gothreads']} with {about['go']}" if loaded.metadata else "not built by gothreads"
    terminal.out(f"{arguments.module}: {about['bytes'] / 1e6:.1f} MB, {about['model']}, {about['buildmode']}, {built}")
    terminal.out(f"memory: {about['memory']['minimum'] / 1e6:.1f} MB to start")
    terminal.out("exports:" if loaded.exports else "exports: none")
    for export in loaded.exports:
        terminal.out(f"  {export.signature.go}")
        for line in export.signature.doc.strip().splitlines():
            terminal.out(f"      {line}")
    terminal.out("imports: " + ", ".join(f"{module} ({len(names)})" for module, names in sorted(about["imports"].items())))
    return 0


def describe(loaded: LoadedModule) -> dict[str, Any]:
    """A module in words that JSON has."""
    imports: dict[str, list[str]] = {}
    for imported in loaded.outline.imports:
        imports.setdefault(imported.module, []).append(imported.name)
    about = loaded.metadata
    return {
        "bytes": len(loaded.wasm), "model": loaded.model, "entry": loaded.entry,
        "buildmode": about.buildmode if about else ("c-shared" if loaded.entry == "_initialize" else "exe"),
        "gothreads": about.version if about else None, "go": about.go if about else None, "options": dict(about.options) if about else {},
        "handlers": bool(about and about.handlers),
        "memory": {key: None if value is None else value * 65536 for key, value in
                   (("minimum", loaded.memory.minimum), ("maximum", loaded.memory.maximum))},
        "exports": [asdict(export.signature) for export in loaded.exports], "imports": imports,
    }


def _serve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    try:
        from gothreads.serve.server import serve
    except ModuleNotFoundError as error:
        raise GothreadsError(f"serving needs {error.name}: pip install 'gothreads[serve]'") from None
    arguments.args = arguments.rest
    return serve(lambda: _open(arguments, terminal, callers=arguments.callers, model=arguments.model, callers_timeout=30.0),
                 arguments.host, arguments.port, terminal)


def _open(arguments: argparse.Namespace, terminal: Terminal, *, callers: int, model: str | None, callers_timeout: float | None = None) -> App:
    if arguments.go:
        os.environ["GOTHREADS_GO"] = arguments.go
    # To run main of a package in stock Go, it must be built as a program.
    loaded = find(arguments.module, model=model, progress=terminal.progress, buildmode="exe" if model == "single" and arguments.command is _run else None)
    terminal.clear()
    env = _environment(arguments.env)
    mounts = [parse_mount(text) for text in arguments.mount]
    if not arguments.no_mount_args:
        mounts += _argument_mounts(arguments.args, mounts, terminal)
    env.setdefault("PWD", os.getcwd())
    limits = Limits(memory=parse_size(arguments.memory)) if arguments.memory else Limits()
    return open_loaded(loaded, args=arguments.args, env=env, mounts=mounts, procs=arguments.procs, callers=callers, callers_timeout=callers_timeout,
                       limits=limits)


def _environment(settings: Sequence[str]) -> dict[str, str]:
    env = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name:
            raise MisuseError(f"--env {setting}: expected NAME=VALUE or NAME")
        if equals:
            env[name] = value
        elif name in os.environ:
            env[name] = os.environ[name]
    return env


def _argument_mounts(args: Sequence[str], mounts: Sequence[Mount], terminal: Terminal) -> list[Mount]:
    """Folders that are named as arguments are handed over by that, read-only, under the same path."""
    found = []
    for arg in dict.fromkeys(args):
        path = Path(os.path.abspath(arg))
        if path.is_dir() and path != Path("/") and not any(Path(arg).is_relative_to(m.guest) for m in mounts):
            found.append(Mount(path, str(path), read_only=True))
            terminal.say(f"the module may read {path} (--no-mount-args: it may not)")
    return found


def parse_mount(text: str) -> Mount:
    """HOST:GUEST[:ro]"""
    parts = text.split(":")
    read_only = len(parts) > 2 and parts[-1] in ("ro", "rw")
    mode = parts.pop() if read_only else "rw"
    if len(parts) != 2 or not all(parts):
        raise MisuseError(f"--mount {text}: expected HOST:GUEST or HOST:GUEST:ro")
    return Mount(Path(parts[0]), parts[1], mode == "ro")


def parse_size(text: str) -> int:
    """Bytes, from 65536, 512M, 1.5G."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise MisuseError(f"{text!r} is not a size; expected a number of bytes, or one such as 512M or 1.5G")
    return int(float(match[1]) * _SIZES[match[2]])


def _package_name(package: str) -> str:
    path = Path(package)
    if path.suffix == ".go":
        return path.stem
    return path.resolve().name if path.is_dir() else package.rstrip("/").rsplit("/", 1)[-1]
