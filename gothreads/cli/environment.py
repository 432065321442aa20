"""Options of a command by the environment: GOTHREADS_SERVE_MAX_CALLS=64 stands for --max-calls 64."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from gothreads.text import closest, cut

_SWITCH = {"1": True, "0": False}


def of_environment(parser: argparse.ArgumentParser, prefix: str, environment: Mapping[str, str]) -> list[str]:
    """The arguments for which variables stand whose names begin with `prefix`.

    They come before all others, so that what the command line says takes precedence; of an option that may be there
    several times, both count. Calls the parser's `error` for a variable that stands for no option.
    """
    options, found = parser._option_string_actions, []
    for name in sorted(environment):
        if not name.startswith(prefix):
            continue
        rest, value = name.removeprefix(prefix), environment[name]
        if _is_of_kubernetes(rest, value):
            continue
        flag = f"--{rest.lower().replace('_', '-')}"
        if (option := options.get(flag)) is None or flag == "--help":
            meant = closest(flag, list(options))
            parser.error(f"{name} stands for no option of {parser.prog}"
                         f"{'' if meant is None else f'. Did you mean {name_of(prefix, meant)}?'}")
        if option.nargs == 0:
            if value not in _SWITCH:
                parser.error(f"{name} must be 1 (as with {flag}) or 0, not {cut(value)}")
            found += [flag] if _SWITCH[value] else []
        else:
            several = isinstance(option, argparse._AppendAction)
            found += [f"{flag}={each}" for each in (value.split() if several else [value])]
    return found


def _is_of_kubernetes(rest: str, value: str) -> bool:
    """Whether Kubernetes sets this for a Service that is named like our prefix: GOTHREADS_SERVE_PORT=tcp://10.0.0.1:80.

    All containers in the Service's namespace have such variables.
    """
    return rest.startswith(("PORT_", "SERVICE_")) or (rest == "PORT" and "://" in value)


def name_of(prefix: str, flag: str) -> str:
    """The variable that stands for an option."""
    return prefix + flag.lstrip("-").replace("-", "_").upper()
