"""The flags that stand for options of open and supervise: help and default are those of the options' definition."""

from __future__ import annotations

import argparse

import pytest

from gothreads.cli.main import COMMANDS
from gothreads.cli.parser import build_parser
from gothreads.runtime.keywords import definition
from gothreads.runtime.options import OpenOptions
from gothreads.supervise.options import RestartOptions, SuperviseOptions

#: Flags that are not named like their option.
NAMED_OTHERWISE = {"mounts": "--mount", "host": "--python", "limits": "--limit"}
#: Options without a flag: those that only a program can use, and those that the commands set themselves.
WITHOUT_FLAG = {"args", "stdin", "stdout", "stderr", "handlers", "imports", "event_queue", "loop", "callers_timeout", "progress",
                "backoff", "wait_timeout", "most_restarts", "on_restart"}
#: Flags of a command that mean something else there than the option of that name.
OWN = {("build", "--model"), ("run", "--model"), ("serve", "--host")}


def flags(command: str) -> dict[str, argparse.Action]:
    return build_parser(COMMANDS)[1][command]._option_string_actions


def flag(name: str) -> str:
    return NAMED_OTHERWISE.get(name, f"--{name.replace('_', '-')}")


@pytest.mark.parametrize("command", ["run", "call", "serve"])
def test_the_help_and_default_of_a_flag_are_those_of_its_option(command: str) -> None:
    there = flags(command)
    for name, option in definition(SuperviseOptions).items():
        if (action := there.get(flag(name))) is None or (command, flag(name)) in OWN:
            continue
        assert str(action.help).startswith(option.phrase), name
        if isinstance(option.default, str | int) and name != "restart":
            assert action.default == option.default


def test_every_option_has_a_flag_but_for_those_that_cannot() -> None:
    there = {name for command in ("run", "call", "serve") for name in flags(command)}
    assert {name for name in definition(SuperviseOptions) if flag(name) not in there} == WITHOUT_FLAG


def test_restart_alone_stands_for_its_default() -> None:
    assert flags("serve")["--restart"].const == definition(RestartOptions)["restart"].default


def test_the_help_can_be_printed() -> None:
    for command in ("run", "call", "serve"):
        shown = " ".join(build_parser(COMMANDS)[1][command].format_help().split())
        assert definition(OpenOptions)["procs"].phrase in shown
