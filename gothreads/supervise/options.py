"""The options of `gothreads.supervise`: their definition, and the checked result.

Annotations in this module are evaluated when it is imported (no `from __future__ import annotations`): see
runtime/keywords.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from gothreads.errors import MisuseError
from gothreads.runtime.keywords import Option, complete, one_of, whole
from gothreads.runtime.models import MODELS
from gothreads.runtime.options import OpenOptions
from gothreads.supervise.restarts import Backoff, Restart
from gothreads.sync.seconds import check_seconds
from gothreads.text import cut

#: When a module that has ended is replaced: always, or unless it ended by itself with exit code 0 or was closed.
RestartWhen = Literal["on-failure", "always"]
#: What calls do while there is no instance: wait for the next, or fail at once with the cause.
WhileDown = Literal["wait", "fail"]


def _check_above_zero(name: str, value: object) -> None:
    check_seconds(name, value, above_zero=True)


def _check_backoff(name: str, value: object) -> None:
    if not isinstance(value, Backoff):
        raise MisuseError(f"{name} must be gothreads.Backoff(...), not {cut(value)}")


def _check_function(name: str, value: object) -> None:
    if not callable(value):
        raise MisuseError(f"{name} must be a function, not {cut(value)}")


class RestartOptions(TypedDict, total=False):
    """The options of `supervise` that say when and how a module is replaced."""

    restart: Annotated[RestartWhen, Option("on-failure", """
        when the module is replaced by a new instance, with new memory. on-failure: when it ends by a panic, os.Exit
        with a code other than 0, a trap, a host function, or a limit. always: also when main returns or the app is
        closed from elsewhere
        """, "close() ends it for good.", check=one_of("on-failure", "always"))]
    backoff: Annotated[Backoff | None, Option(
        None, "how long to wait before each restart (default: gothreads.Backoff())", check=_check_backoff)]
    while_down: Annotated[WhileDown, Option("wait", """
        what happens to calls made while there is no instance. wait: they wait for the next one; fail: they fail at
        once
        """, """
        After `wait_timeout` seconds, calls that wait fail with the cause; after their own timeout, with CallTimeout.
        Calls in the module when it ends always fail with the cause: they may have had an effect, so they are not
        repeated.
        """, check=one_of("wait", "fail"))]
    wait_timeout: Annotated[float | None, Option(
        None, "how many seconds calls wait for an instance (default: without limit)", check=_check_above_zero)]
    most_restarts: Annotated[int | None, Option(
        None, "how many restarts in a row to try before giving up (default: without limit)", """
        In a row: without `backoff.reset_after` seconds of running in between. Every call then fails with the last
        cause.
        """, check=whole(0))]
    save_every: Annotated[float | None, Option(None, """
        how often, in seconds, to save the module's state: its handler `save` is called, and the latest reply is
        passed to `load` of a new instance, before any call
        """, """
        The same happens with the reply of `save` before a planned `restart()`, with or without save_every. A module
        that has ended cannot be asked: changes since the last `save` are lost. If `load` fails, the start has failed;
        the next start is tried without the state, which is dropped if that succeeds.
        """, check=_check_above_zero)]
    on_restart: Annotated[Callable[[Restart], object] | None, Option(
        None, "a function that is called with a `gothreads.Restart` before each pause", """
        It is called on the thread that will create the new instance and waits for it. Without it, restarts are logged.
        """, check=_check_function)]


class SuperviseOptions(RestartOptions, OpenOptions, total=False):
    """The options of `gothreads.supervise`."""


@dataclass(frozen=True)
class RestartPolicy:
    """When a module is replaced, and what is done about it: the RestartOptions, checked and complete."""

    restart: RestartWhen
    backoff: Backoff
    while_down: WhileDown
    wait_timeout: float | None
    most_restarts: int | None
    save_every: float | None
    on_restart: Callable[[Restart], object] | None


def restart_policy(given: RestartOptions, model: str | None) -> RestartPolicy:
    """Check the options, and complete them. MisuseError: one is wrong."""
    options = complete("supervise()", RestartOptions, given)
    if options["save_every"] is not None and model in MODELS and MODELS[model].has_many_instances:
        raise MisuseError('save_every (--save-every) is not for the model "pool": its instances share nothing, '
                          "so there is no state of the module to save")
    return RestartPolicy(**options | {"backoff": options["backoff"] or Backoff()})
