"""The file that is kept of a failure: what is needed to repeat it and to understand it."""

from __future__ import annotations

import platform
import shlex
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version as installed
from pathlib import Path

from gothreads.errors import GothreadsError, MisuseError
from gothreads.files import write_atomically
from gothreads.tools.stress.sampling import Snapshot
from gothreads.tools.stress.scenario_context import InvariantBroken, ScenarioContext, StressPlan
from gothreads.version import __version__


class Hang(InvariantBroken):
    """There was no progress for too long."""


def message(failure: BaseException) -> str:
    """A failure in words: those of an invariant; otherwise the kind of error, and its message."""
    if isinstance(failure, InvariantBroken):
        return str(failure)
    return f"{type(failure).__name__}: {failure}"


def command(named: Sequence[str], plan: StressPlan) -> str:
    """The command that repeats it. `named`: the words that name the scenario."""
    sharpened = [] if plan.sharpen is None else ["--sharpen", str(plan.sharpen)]
    return shlex.join(["gothreads", "stress", *named, "--seed", str(plan.seed), "--seconds", f"{plan.seconds:g}",
                       "--threads", str(plan.threads), "--procs", str(plan.processors), "--hang", f"{plan.hang:g}",
                       *(["--broken"] if plan.broken else []), *sharpened])


def keep(path: Path, context: ScenarioContext, failure: BaseException, last: Snapshot | None, again: str) -> None:
    """Write the file. MisuseError when that fails."""
    stacks = context.stacks or context.take_stacks()
    go = context.module.metadata.go if context.module.metadata else "not built from Go"
    cause = "" if isinstance(failure,
                             InvariantBroken | GothreadsError) else "".join(traceback.format_exception(failure))
    measured = ", ".join(f"{name} {value}" for name, value in asdict(last).items()) if last else "nothing yet"
    parts = [
        f"gothreads stress: the scenario {context.name} failed",
        message(failure),
        f"seed:     {context.plan.seed}\nscenario: {context.name}\nagain:    {again}",
        f"gothreads {__version__}, {go}, wasmtime {installed('wasmtime')}, Python {platform.python_version()}, "
        f"{platform.platform()}\n"
        f"last measured: {measured}",
        *([f"== Where it was raised ==\n{cause.rstrip()}"] if cause else []),
        f"== Goroutines ==\n{stacks.goroutines}",
        f"== Python threads ==\n{stacks.python}",
    ]
    try:
        write_atomically(path, ("\n\n".join(parts) + "\n").encode(errors="backslashreplace"))
    except GothreadsError as error:
        raise MisuseError(f"{error}; what failed: {message(failure)}; again: {again}") from None
