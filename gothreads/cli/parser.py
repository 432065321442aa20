"""The parser of the command line: common options, and what is split off before argparse sees it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gothreads.cli.command import Command, RawCommand
from gothreads.cli.environment import name_of, of_environment
from gothreads.output.terminal import Verbosity
from gothreads.text import closest
from gothreads.version import __version__

#: The commands' exit codes.
EXIT_CODES = """exit codes:
  0        success
  1        an error, reported on standard error; or a handler returned one
  2        a wrong command line; or the module panicked
  124      timeout (--timeout, --limit seconds=N)
  130, 143 Ctrl-C, SIGTERM (serve: 0)
  134      the module trapped, or a Python function that it called raised
  153      the module exceeded its output limit (--limit output=N)
  others   the module's own: os.Exit"""

#: Options that many programs have too. Written after the module, they are the module's without a remark.
_COMMON = {"-h", "--help", "-v", "--verbose", "-q", "--quiet"}

#: How the usage of a command ends that passes on what follows --.
_DASHES = "[-- ARG…]"


class UsageError(Exception):
    """The command line is wrong. help: the command that says how it is. as_json: whether the user asked for JSON."""

    def __init__(self, message: str, program: str) -> None:
        super().__init__(message)
        self.message, self.help, self.as_json = message, f"{program} --help", False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.prog)


class _WithDashes(argparse.RawDescriptionHelpFormatter):
    """For commands that pass on what follows --, which argparse's own usage lacks."""

    def _format_usage(self, *about: Any) -> str:
        lines = super()._format_usage(*about).rstrip().split("\n")
        indent = len(lines[-1]) - len(lines[-1].lstrip()) if len(lines) > 1 else len(f"usage: {self._prog} ")
        if len(lines[-1]) + len(_DASHES) < self._width:
            lines[-1] += f" {_DASHES}"
        else:
            lines.append(" " * indent + _DASHES)
        return "\n".join(lines) + "\n\n"


def parse(commands: Sequence[Command | RawCommand], argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. UsageError if it is wrong; SystemExit if it asked for help, which is printed.

    In the result, `run` is the command's function, `parser` the main parser, `verbosity` a Verbosity, `note` a remark
    for the user, `flags` the names of the command's options that are there, and `args` what is passed on: everything
    after the module (for `call`, after the export), without a leading --; for `build`, everything after --.
    """
    parser, parsers = build_parser(commands)
    at = next((place for place, text in enumerate(argv) if not text.startswith("-")), len(argv))
    before, name, after = argv[:at], argv[at:at + 1], argv[at + 1:]
    command = next((command for command in commands if [command.name] == name), None)
    if isinstance(command, RawCommand):
        return _raw(command, parser.parse_args([*before, *name]), list(after))
    if command is None and name:
        instead = (f". To run it: gothreads run {name[0]}" if _is_module(name[0]) else
                   f". {meant}" if (meant := close(name[0], [one.name for one in commands])) else "")
        raise UsageError(f"{name[0]} is not a command{instead}", parser.prog)
    by_environment: list[str] = []
    passes_on = command is not None and command.own_arguments is not None
    missing = 0
    if command is None or command.own_arguments is None:
        own, passed = _split_at_dashes(after)
    else:
        own, passed, missing = _split(parsers[command.name], after, command.own_arguments)
    try:
        if command is not None:
            if command.variables and not {"-h", "--help"}.intersection(own):
                by_environment = of_environment(parsers[command.name], command.variables, os.environ)
                own = [*by_environment, *own]
            # Or as -cVALUE.
            given = {name for text in own for name in (text.partition("=")[0], text[:2])}
            if missing == 1 and (command.last_is_optional or not given.isdisjoint(command.last_is_optional_with)):
                own.append("")
            _check_dashes(parsers[command.name], own)
        arguments, unknown = parser.parse_known_args([*before, *name, *own])
        assert command is not None  # else parse_known_args has raised
        if not (passes_on or command.passes_on_dashes):
            unknown += passed
        if unknown:
            hint = ("; options for the module go after it" if passes_on else f"; {command.passes_on_dashes} go after --"
                    if command.passes_on_dashes else "")
            flag = unknown[0].partition("=")[0]
            others = [other for other, one in parsers.items() if flag in one._option_string_actions]
            if flag.startswith("--") and others:
                hint = f" (gothreads {', '.join(others)} {'has' if len(others) == 1 else 'have'} it){hint}"
            elif flag.startswith("--") and (meant := close(flag, list(parsers[command.name]._option_string_actions))):
                hint = f". {meant}"
            parsers[command.name].error(f"unrecognized argument: {unknown[0]}{hint}")
    except UsageError as error:
        error.message += (_instead_of_missing(command, error.message)
                          + _of_variable(command, error.message, by_environment))
        error.as_json = "--json" in own
        raise
    arguments.note = _note(command.name, parsers[command.name], own[-1], passed) if passes_on else None
    arguments.flags = frozenset(text.partition("=")[0] for text in own if text.startswith("-"))
    arguments.args = passed[passed[:1] == ["--"]:]
    return arguments


def _instead_of_missing(command: Command | None, message: str) -> str:
    """What may stand for the argument that is missing, to follow the message that it is."""
    if command is None or not command.last_is_optional_with or "arguments are required" not in message:
        return ""
    return f", or {' or '.join(command.last_is_optional_with)}"


def _of_variable(command: Command | None, message: str, by_environment: Sequence[str]) -> str:
    """Where the option comes from that a message is about, to follow it, if the environment has it."""
    about = next((text.partition("=")[0] for text in by_environment
                  if message.startswith(f"argument {text.partition('=')[0]}:")), None)
    return "" if command is None or about is None else f" (by {name_of(command.variables, about)})"


def build_parser(commands: Sequence[Command | RawCommand]) -> tuple[argparse.ArgumentParser,
                                                                    Mapping[str, argparse.ArgumentParser]]:
    """The main parser, and those of the commands."""
    parser = _Parser(prog="gothreads", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                     description="Runs ordinary Go programs, compiled to WebAssembly, on many threads.",
                     epilog=f"{EXIT_CODES}\n\nFor examples: gothreads COMMAND --help")
    parser.add_argument("--version", action="version", version=f"gothreads {__version__}")
    _add_verbosity(parser, Verbosity.NORMAL)
    parser.set_defaults(parser=parser)
    choices = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        if isinstance(command, RawCommand):
            choices.add_parser(command.name, help=command.help, add_help=False)
            continue
        formatter = _WithDashes if command.passes_on_dashes else argparse.RawDescriptionHelpFormatter
        sub = choices.add_parser(command.name, help=command.help,
                                 description=f"{command.help[0].upper()}{command.help[1:]}.",
                                 epilog=f"examples:\n{command.examples}", formatter_class=formatter,
                                 allow_abbrev=False)
        command.add_arguments(sub)
        _add_verbosity(sub, argparse.SUPPRESS)
        sub.set_defaults(run=command.run)
    return parser, choices.choices


def close(text: str, names: Sequence[str]) -> str:
    """The question whether one of these names was meant; "" if none is close. Options are compared without dashes."""
    bare = {name.lstrip("-"): name for name in names if name.startswith("--") == text.startswith("--")}
    found = closest(text.lstrip("-"), bare)
    meant = None if found is None else bare[found]
    return f"Did you mean {meant}?" if meant is not None else ""


def _check_dashes(parser: argparse.ArgumentParser, own: Sequence[str]) -> None:
    """Report an option with one dash, as Go has them. argparse would take -optimize for -o ptimize."""
    options = parser._option_string_actions
    for text in own[:own.index("--")] if "--" in own else own:
        name = text.partition("=")[0]
        if re.match(r"-[a-z]{2}", name) and f"-{name}" in options:
            parser.error(f"unrecognized argument: {text}. Did you mean -{text}?")


def _is_module(text: str) -> bool:
    """Whether this, in place of a command, is what a command would take."""
    return text.endswith((".wasm", ".go")) or text.startswith((".", "/"))


def _add_verbosity(parser: argparse.ArgumentParser, default: Verbosity | str) -> None:
    parser.add_argument("-v", "--verbose", action="store_const", dest="verbosity", const=Verbosity.VERBOSE,
                        default=default,
                        help="print more messages, and Python's traceback of an error")
    parser.add_argument("-q", "--quiet", action="store_const", dest="verbosity", const=Verbosity.QUIET, default=default,
                        help="print only warnings and errors")


def _raw(command: RawCommand, arguments: argparse.Namespace, argv: list[str]) -> argparse.Namespace:
    if argv[:1] in (["-h"], ["--help"]):
        print(command.usage)
        raise SystemExit(0)
    if command.quiet:
        arguments.verbosity = Verbosity.QUIET
    arguments.note, arguments.run = None, lambda _arguments, _terminal: command.run(argv)
    return arguments


def _split(parser: argparse.ArgumentParser, argv: Sequence[str], count: int) -> tuple[list[str], list[str], int]:
    """Split after `count` positional arguments, and say how many of them are missing.

    argparse cannot: it also looks for options among those that follow.
    """
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
            choices = option.choices or ()
            if rest and rest[0] not in choices and re.fullmatch(r"\w[\w-]*", rest[0]) and not os.path.exists(rest[0]):
                parser.error(f"{rest[0]} is neither a value of {name} ({', '.join(choices)}) nor a file or folder here")
            own[-1] = f"{name}={rest.pop(0) if rest and rest[0] in choices else option.const}"
        elif rest:
            own.append(rest.pop(0))
    return own, rest, count


def _split_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    where = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:where]), list(argv[where + 1:])


def _note(command: str, parser: argparse.ArgumentParser, last: str, passed: Sequence[str]) -> str | None:
    """A remark for the user if options that look like ours go to the module. After -- they are meant to."""
    names = (text.partition("=")[0] for text in _split_at_dashes(passed)[0])
    ours = [name for name in dict.fromkeys(names) if name in parser._option_string_actions.keys() - _COMMON]
    if not ours:
        return None
    verb = "goes" if len(ours) == 1 else "go"
    return (f"{', '.join(ours)} after {last} {verb} to the module. Options for gothreads come before it: "
            f"gothreads {command} {ours[0]} ... (if the module is meant, write -- after {last})")
