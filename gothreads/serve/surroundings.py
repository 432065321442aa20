"""What an app's application shares with others of its server, and with those of the app's other instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute

from gothreads.serve.gate import Gate
from gothreads.serve.guard import Held
from gothreads.serve.metrics import Metrics
from gothreads.serve.served import NamedRoute


@dataclass(frozen=True)
class Surroundings:
    """What an app's application shares with others of its server, and with those of the app's other instances: counts
    and keys outlast an instance that is replaced.

    name: the app's. gate: who may call it, and how much. routes: further ones. named: those that the app's owner has
    named. failure: why the app has not been replaced by a newer one; None: it has, or that was not tried.
    dashboard: the link to it, if there is one.
    """

    name: str
    held: Held
    metrics: Metrics
    gate: Gate
    routes: Sequence[BaseRoute] = ()
    named: Sequence[NamedRoute] = ()
    failure: Callable[[], str | None] = lambda: None
    dashboard: str | None = None
