"""What can be served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gothreads.runtime.app import App
from gothreads.supervise.app import Supervised

Served = App | Supervised


@dataclass(frozen=True)
class NamedRoute:
    """A path that leads to an export (or typed function) or a handler: `kind`. timeout: None: that of all calls."""

    method: str
    path: str
    kind: Literal["export", "handler"]
    name: str
    timeout: float | None = None
