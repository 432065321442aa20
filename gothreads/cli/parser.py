"""The command line's options and the syntax of their values."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gothreads.cli import cache, compile, doctor
from gothreads.errors import MisuseError
from gothreads.launch import CALLERS, RUN_MODELS
from gothreads.runtime.options import DRAIN_SECONDS, Limits
from gothreads.terminal import Terminal
from gothreads.tools.compare import options as comparing
from gothreads.tools.stress import options as stress_options
from gothreads.version import __version__
from gothreads.wasi.definitions import Mount
from gothreads.wasm.metadata import BUILD_MODES, MODELS

#: Runs a command; returns the exit code.
Command = Callable[[argparse.Namespace, Terminal], int]

#: The commands' exit codes.
EXIT_CODES = """exit codes:
  0        all went well
  1        a mistake, said on standard error; or a handler returned an error
  2        the command line is wrong; or the module panicked
  124      out of time (--timeout, --limit seconds=N)
  130, 143 Ctrl-C, SIGTERM (of serve: 0)
  134      the module trapped, or a Python function that it called raised
  153      it wrote more than it may (--limit output=N)
  others   the module's own: os.Exit"""

#: Commands that pass arguments on to the module -> how many positional arguments of their own come first.
_OWN = {"run": 1, "serve": 1, "call": 2}

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse(functions: Mapping[str, Command], argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. SystemExit if it is wrong.

    In the result, `command` is the command's function, `note` a remark for the user, and `args` what is passed on:
    everything after the module (for `call`, after the export), without a leading --; for `build`, everything after --.
    """
    parser, commands = _build_parsers(functions)
    name = argv[0] if argv else ""
    own, passed = _split(commands[name], argv[1:], _OWN[name]) if name in _OWN else _split_at_dashes(argv[1:])
    arguments, unknown = parser.parse_known_args([*argv[:1], *own])
    if name not in (*_OWN, "build"):
        unknown += passed
    if unknown:
        where = {"build": "go build goes after --", **dict.fromkeys(_OWN, "the module goes after it")}
        arguments.parser.error(f"unrecognized argument: {unknown[0]}" + (f"; what is for {where[name]}" if name in where else ""))
    arguments.note = _note(name, commands[name], own[-1], passed) if name in _OWN else None
    arguments.args = passed[passed[:1] == ["--"]:]
    return arguments


def _split(parser: argparse.ArgumentParser, argv: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Split after `count` positional arguments. argparse cannot: it also looks for options among those that follow."""
    options = parser._option_string_actions
    own: list[str] = []
    rest = list(argv)
    while rest and count:
        text = rest.pop(0)
        if text == "--" and "--" in own:  # argparse would take a second one for an argument
            continue
        own.append(text)
        name, equals, _ = text.partition("=")
        if text == "--":
            continue
        if "--" in own or not text.startswith("-") or text == "-":
            count -= 1
        elif (option := options.get(name)) is None or equals or option.nargs == 0:
            pass
        elif option.nargs == "?":  # in `--restart app.wasm`, the module is not the value
            value = rest.pop(0) if rest and rest[0] in (option.choices or ()) else option.const
            own[-1] = f"{name}={value}"
        elif rest:
            own.append(rest.pop(0))
    return own, rest


def _split_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    where = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:where]), list(argv[where + 1:])


def _note(command: str, parser: argparse.ArgumentParser, last: str, passed: Sequence[str]) -> str | None:
    """A remark for the user if options that look like ours go to the module. After -- they are meant to."""
    names = (text.partition("=")[0] for text in _split_at_dashes(passed)[0])
    ours = [name for name in dict.fromkeys(names) if name in parser._option_string_actions.keys() - {"-h", "--help"}]
    if not ours:
        return None
    return (f"{', '.join(ours)} after {last} goes to the module. An option for gothreads comes before it: "
            f"gothreads {command} {ours[0]} ... (write -- after {last} if the module is meant)")


def _build_parsers(functions: Mapping[str, Command]
                   ) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The main parser, and those of the commands, which set `command` (the function) and `parser` in the result."""
    parser = argparse.ArgumentParser(prog="gothreads", allow_abbrev=False, description="Ordinary Go, compiled to WebAssembly, on many threads.",
                                     epilog=f"{EXIT_CODES}\n\ngothreads COMMAND --help has examples.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"gothreads {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("test", help="go test, on threads", add_help=False)
    commands.add_parser("go-exec", help="run what Go has linked, as -exec of go test", add_help=False)

    def add(name: str, help_: str, examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", epilog="examples:\n" + examples,
                                  formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        sub.set_defaults(command=functions[name], parser=sub)
        return sub

    sub = add("build", "build a Go package into a module",
              "  gothreads build ./app -o app.wasm\n"
              "  gothreads build ./app --model single        stock Go, to compare with\n"
              "  gothreads build ./app -- -tags debug        flags for go build")
    sub.add_argument("package", nargs="?", default=".", metavar="PACKAGE", help="a folder, an import path, or a .go file (default: this folder)")
    sub.add_argument("-o", dest="output", metavar="FILE", help="the module (default: the package's name with .wasm)")
    _add_build_options(sub)
    sub.add_argument("--buildmode", choices=BUILD_MODES, help="exe: main runs (default for threaded). c-shared: it does not (default for single)")
    sub.add_argument("--strip", action="store_true", help="leave out names; stack traces of traps then have numbers")
    sub.add_argument("--no-preemption", action="store_true", help="no checks in loops: tight loops are faster, but hold up garbage collection")
    sub.add_argument("--sharpen", type=int, metavar="SEED", help="delay atomics, locks and wake-ups at random, so that races show (slow: for tests)")
    sub.add_argument("--json", action="store_true", help="say what was built as JSON")

    sub = add("init", "begin a program, or make the package gothreads/guest known to editors and go vet",
              "  gothreads init            in a program's folder\n"
              "  gothreads init newapp     a new program, to begin with")
    sub.add_argument("folder", nargs="?", default=".", metavar="FOLDER")
    sub.add_argument("--go", metavar="PATH", help="the go command to use")

    sub = add("run", "run a module's main to its end; the exit code is the module's (a module that is there to be called: serve, call)",
              "  gothreads run app.wasm ARG…\n"
              "  gothreads run --procs 4 --mount ./data:/data:ro ./app -v /data\n"
              "  gothreads run --listen 127.0.0.1:8080 --allow-net api.example.org:443 ./app\n"
              "  gothreads run --stall-timeout 10 --on-stall exit ./app")
    _add_module(sub)
    _add_build_options(sub)
    _add_run_options(sub)
    _add_service_options(sub)

    sub = add("call", "call one export, or one handler",
              "  gothreads call app.wasm add 2 3\n"
              "  gothreads call ./app search '{\"query\": \"go\"}'     a handler: the payload, or - for standard input\n"
              "  gothreads call app.wasm upper < FILE\n"
              "  gothreads call --bytes strings.wasm upper hello   not Go's: a text is an address and a length, and so is what comes back")
    sub.add_argument("module", metavar="FILE|PACKAGE")
    sub.add_argument("export", metavar="EXPORT|HANDLER")
    sub.add_argument("args", nargs="*", default=[], metavar="ARG", help="for the export, or the handler's payload: everything after its name")
    sub.add_argument("--json", action="store_true", help="print the result as JSON")
    sub.add_argument("--timeout", type=_seconds, metavar="S", help="give up, and end the module, after so many seconds (default: never)")
    sub.add_argument("--bytes", action="store_true", help="print the bytes that the result, an i64, stands for: address << 32 | length (not of Go's modules)")
    _add_model_options(sub)
    _add_run_options(sub)

    sub = add("inspect", "tell what a module is and exports", "  gothreads inspect app.wasm\n  gothreads inspect app.wasm --json")
    sub.add_argument("module", metavar="FILE")
    sub.add_argument("--json", action="store_true", help="print as JSON")

    compile.add_arguments(add("compile", compile.HELP, compile.EXAMPLES))
    cache.add_arguments(add("cache", cache.HELP, cache.EXAMPLES))

    add("doctor", doctor.HELP, doctor.EXAMPLES).add_argument("--json", action="store_true", help="print as JSON")

    sub = add("serve", "run a module and serve its exports over HTTP",
              "  gothreads serve app.wasm\n"
              "  gothreads serve --port 8000 examples/searchd DIR\n"
              "  gothreads serve --model pool --instances 4 ./app\n"
              "  gothreads serve --python host.py ./app         with the Python functions that it calls\n"
              "  gothreads serve --timeout 5 --limit memory=512M --limit files=100 ./app\n"
              "  gothreads serve --restart --save-every 10 ./app   a fresh instance when it has ended, with the state of 10 seconds ago at the most\n"
              "  curl -d '{\"args\": [2, 3]}' localhost:8080/api/call/add")
    _add_module(sub)
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s; there is no authentication)")
    sub.add_argument("--port", type=_port, default=8080, help="port to listen on; 0: any (default: %(default)s)")
    sub.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                     help="another name that the server goes by, such as a proxy's: requests for others are refused (default: localhost, and --host)")
    sub.add_argument("--callers", type=_count, metavar="N", default=CALLERS, help="calls in the module at the same time (default: %(default)s)")
    sub.add_argument("--timeout", type=_seconds, metavar="S", help="how many seconds a call may take; after that it is answered with 504 (default: any)")
    sub.add_argument("--on-timeout", choices=("cancel", "continue", "stop"), default="cancel",
                     help="what becomes of it then: cancel the context of a handler that has one, and let others go on; let all go on; or stop the module, "
                     "or of a pool the instance (default: %(default)s)")
    sub.add_argument("--json-limit", metavar="SIZE", default="4M",
                     help="the most that a call's arguments may be, as JSON (default: %(default)s; what handlers get may be 64M)")
    sub.add_argument("--drain", type=_drain, metavar="S", default=DRAIN_SECONDS,
                     help="how many seconds requests in flight may take after Ctrl-C or SIGTERM (default: %(default)g)")
    _add_model_options(sub)
    _add_run_options(sub)
    _add_service_options(sub)
    sub.add_argument("--while-down", choices=("wait", "fail"), default="wait",
                     help="with --restart: calls that come while there is no instance wait for the next, up to 10 s, or are 503 at once (default: wait)")
    sub.add_argument("--save-every", type=_seconds, metavar="S",
                     help="with --restart: ask the module's handler `save` for its state so often; `load` of a fresh instance is given it")
    stress_options.add_options(add("stress", stress_options.HELP, stress_options.EXAMPLES), _seconds, _count)
    comparing.add_options(add("compare", comparing.HELP, comparing.EXAMPLES))
    return parser, commands.choices


def _add_module(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE")
    parser.add_argument("args", nargs="*", default=[], metavar="ARG", help="for the module: everything after it, options too")


def _add_build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, help="what to build a package for (default: threaded)")
    _add_go(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=RUN_MODELS, help="how to run it: docs/models.md (default: as it was built; a package: threaded)")
    parser.add_argument("--instances", type=_count, metavar="N", help="of a pool (default: the number of processors)")
    _add_go(parser)


def _add_go(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--go", metavar="PATH", help="the go command to build with")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--procs", type=_count, metavar="N", help="GOMAXPROCS (default: the number of processors)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="a variable for the module; without =VALUE, this process's own")
    parser.add_argument("--mount", action="append", default=[], metavar="HOST:GUEST[:ro]", help="a folder that the module may use; or, with :ro, a file")
    parser.add_argument("--no-mount-args", action="store_true", help="do not make arguments that name files and folders readable to the module")
    parser.add_argument("--allow-net", action="append", default=[], metavar="HOST:PORT",
                        help="what the module may dial, and listen on (guest.Dial, guest.Listen): each part may be *; or unix:PATH. Where other machines "
                        "can connect, it listens only on an address named here, such as 0.0.0.0:8080 (default: nothing)")
    compile.add_trust(parser)
    parser.add_argument("--python", metavar="FILE",
                        help="a Python file with `host = gothreads.Host()`: the functions and handlers that the module may call")
    parser.add_argument("--memory", metavar="SIZE", help="the most memory that the module may use, such as 512M (default: 3.75G, the most there can be)")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=N",
                        help="what else it may use: memory, stack (of a thread) or output, such as output=10M; threads; files (open at a time); "
                        "seconds (that it runs)")


def _add_service_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", action="append", default=[], metavar="HOST:PORT",
                        help="listen there and hand the module the socket (guest.Listener); port 0: any; or unix:PATH")
    parser.add_argument("--stall-timeout", type=_seconds, metavar="S",
                        help="say so, with all stacks, when everything in the module has waited for each other for so many seconds")
    parser.add_argument("--on-stall", choices=("report", "exit"), default="report", help="after saying so, go on, or exit with code 2 (default: %(default)s)")

    parser.add_argument("--restart", nargs="?", const="on-failure", choices=("on-failure", "always"),
                        help="when the module has ended, begin again, with fresh memory, after a pause that grows from 0.1 to 30 s; also "
                        "when it has ended by itself with exit code 0: always (alone: on-failure)")


def parse_mount(text: str) -> Mount:
    """HOST:GUEST[:ro]"""
    parts = text.split(":")
    read_only = len(parts) > 2 and parts[-1] in ("ro", "rw")
    mode = parts.pop() if read_only else "rw"
    if len(parts) != 2 or not all(parts):
        raise MisuseError(f"--mount {text}: expected HOST:GUEST or HOST:GUEST:ro")
    if not os.path.exists(parts[0]):  # not Path.exists, which raises for names that are too long
        raise MisuseError(f"--mount {text}: {parts[0]} does not exist")
    is_file = os.path.isfile(parts[0])
    if not os.path.isdir(parts[0]) and not (is_file and mode == "ro"):
        hint = f"; a file can be mounted read-only: --mount {parts[0]}:{parts[1]}:ro" if is_file else ""
        raise MisuseError(f"--mount {text}: {parts[0]} is not a folder{hint}")
    if not parts[1].startswith("/"):
        raise MisuseError(f"--mount {text}: the place in the module must begin with /: {parts[0]}:/{parts[1]}")
    return Mount(Path(parts[0]), parts[1], mode == "ro")


def parse_environment(settings: Sequence[str]) -> dict[str, str]:
    """Parse NAME=VALUE, or NAME for this process's value, if it is set."""
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


def parse_size(text: str, option: str = "--memory ") -> int:
    """Parse a size such as 65536, 512M or 1.5G into bytes. `option` is named in the error message."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise MisuseError(f"{option}{text}: not a size; expected a number of bytes, or one such as 512M or 1.5G")
    return int(float(match[1]) * _SIZES[match[2]])


def parse_limits(memory: str | None, texts: Sequence[str]) -> Limits:
    """Parse --memory SIZE and --limit NAME=N."""
    limits: dict[str, Any] = {"memory": parse_size(memory)} if memory else {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            match name:
                case "memory" | "stack" | "output" if equals:
                    limits[name] = parse_size(value, f"--limit {name}=")
                case "threads" | "files" if equals:
                    limits[name] = _count(value)
                case "seconds" if equals:
                    limits[name] = _seconds(value)
                case _:
                    raise argparse.ArgumentTypeError(f"expected NAME=N; names are: {', '.join(field.name for field in fields(Limits))}")
        except argparse.ArgumentTypeError as error:
            raise MisuseError(f"--limit {text}: {error}") from None
    return Limits(**limits)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; expected a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _drain(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
