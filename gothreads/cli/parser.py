"""The command line's parser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from gothreads.cli import doctor
from gothreads.cli.module_options import add_build_options, add_model_options, add_module, add_run_options, add_service_options
from gothreads.cli.values import parse_count, parse_drain, parse_port, parse_seconds
from gothreads.launch import CALLERS
from gothreads.runtime.options import DRAIN_SECONDS
from gothreads.terminal import Terminal
from gothreads.tools.compare import options as comparing
from gothreads.tools.stress import options as stress_options
from gothreads.version import __version__
from gothreads.wasm.metadata import BUILD_MODES

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
        sub.set_defaults(command=functions[name], parser=sub, no_calls=name == "run")
        return sub

    sub = add("build", "build a Go package into a module",
              "  gothreads build ./app -o app.wasm\n"
              "  gothreads build ./app --model single        stock Go, to compare with\n"
              "  gothreads build ./app -- -tags debug        flags for go build")
    sub.add_argument("package", nargs="?", default=".", metavar="PACKAGE", help="a folder, an import path, or a .go file (default: this folder)")
    sub.add_argument("-o", dest="output", metavar="FILE", help="the module (default: the package's name with .wasm)")
    add_build_options(sub)
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
    add_module(sub)
    add_build_options(sub)
    add_run_options(sub)
    add_service_options(sub)

    sub = add("call", "call one export, or one handler",
              "  gothreads call app.wasm add 2 3\n"
              "  gothreads call ./app search '{\"query\": \"go\"}'     a handler: the payload, or - for standard input\n"
              "  gothreads call app.wasm upper < FILE\n"
              "  gothreads call --bytes strings.wasm upper hello   not Go's: a text is an address and a length, and so is what comes back")
    sub.add_argument("module", metavar="FILE|PACKAGE")
    sub.add_argument("export", metavar="EXPORT|HANDLER")
    sub.add_argument("args", nargs="*", default=[], metavar="ARG", help="for the export, or the handler's payload: everything after its name")
    sub.add_argument("--json", action="store_true", help="print the result as JSON")
    sub.add_argument("--timeout", type=parse_seconds, metavar="S", help="give up, and end the module, after so many seconds (default: never)")
    sub.add_argument("--bytes", action="store_true", help="print the bytes that the result, an i64, stands for: address << 32 | length (not of Go's modules)")
    add_model_options(sub)
    add_run_options(sub)

    sub = add("inspect", "tell what a module is and exports", "  gothreads inspect app.wasm\n  gothreads inspect app.wasm --json")
    sub.add_argument("module", metavar="FILE")
    sub.add_argument("--json", action="store_true", help="print as JSON")

    add("doctor", doctor.HELP, doctor.EXAMPLES).add_argument("--json", action="store_true", help="print as JSON")

    sub = add("serve", "run a module and serve its exports over HTTP",
              "  gothreads serve app.wasm\n"
              "  gothreads serve --port 8000 examples/searchd DIR\n"
              "  gothreads serve --model pool --instances 4 ./app\n"
              "  gothreads serve --python host.py ./app         with the Python functions that it calls\n"
              "  gothreads serve --timeout 5 --limit memory=512M --limit files=100 ./app\n"
              "  gothreads serve --restart --save-every 10 ./app   a fresh instance when it has ended, with the state of 10 seconds ago at the most\n"
              "  curl -d '{\"args\": [2, 3]}' localhost:8080/api/call/add")
    add_module(sub)
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s; there is no authentication)")
    sub.add_argument("--port", type=parse_port, default=8080, help="port to listen on; 0: any (default: %(default)s)")
    sub.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                     help="another name that the server goes by, such as a proxy's: requests for others are refused (default: localhost, and --host)")
    sub.add_argument("--callers", type=parse_count, metavar="N", default=CALLERS, help="calls in the module at the same time (default: %(default)s)")
    sub.add_argument("--timeout", type=parse_seconds, metavar="S", help="how many seconds a call may take; after that it is answered with 504 (default: any)")
    sub.add_argument("--on-timeout", choices=("cancel", "continue", "stop"), default="cancel",
                     help="what becomes of it then: cancel the context of a handler that has one, and let others go on; let all go on; or stop the module, "
                     "or of a pool the instance (default: %(default)s)")
    sub.add_argument("--json-limit", metavar="SIZE", default="4M",
                     help="the most that a call's arguments may be, as JSON (default: %(default)s; what handlers get may be 64M)")
    sub.add_argument("--drain", type=parse_drain, metavar="S", default=DRAIN_SECONDS,
                     help="how many seconds requests in flight may take after Ctrl-C or SIGTERM (default: %(default)g)")
    add_model_options(sub)
    add_run_options(sub)
    add_service_options(sub)
    sub.add_argument("--while-down", choices=("wait", "fail"), default="wait",
                     help="with --restart: calls that come while there is no instance wait for the next, up to 10 s, or are 503 at once (default: wait)")
    sub.add_argument("--save-every", type=parse_seconds, metavar="S",
                     help="with --restart: ask the module's handler `save` for its state so often; `load` of a fresh instance is given it")
    stress_options.add_options(add("stress", stress_options.HELP, stress_options.EXAMPLES), parse_seconds, parse_count)
    comparing.add_options(add("compare", comparing.HELP, comparing.EXAMPLES))
    return parser, commands.choices
