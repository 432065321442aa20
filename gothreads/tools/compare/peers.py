"""One interface to the program under any design, which workloads call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import gothreads
import gothreads.launch  # noqa: F401 - `open` imports it, and what that takes is not start-up of a design
from gothreads.errors import BuildError
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.native import NativePeer
from gothreads.tools.compare.programs import Programs

#: The function that the Go program calls.
HostFunction = Callable[[int], int]

#: How many calls may be in a module at a time: more than any workload makes.
CALLERS = 512


class Peer(Protocol):
    """The running program. All methods may be called from any thread."""

    def function(self, export: str) -> Callable[..., Any]:
        """A function that calls an export: takes ints, returns an int or None."""

    def request(self, handler: str, payload: bytes) -> bytes:
        """Sends bytes to one of the program's handlers, and returns its answer."""

    def another(self) -> Peer | None:
        """A second instance in this process; None when there can be none."""

    def close(self) -> None:
        """No call may be in the program."""


class AppPeer:
    """A module that gothreads runs. See Peer."""

    def __init__(self, path: Path, design: Design, instances: int | None, host: HostFunction) -> None:
        self._path, self._design, self._host = path, design, host
        functions: dict[str, dict[str, Callable[..., Any]]] = {"env": {"host": host}}
        self.app = gothreads.open(path, model=design.model, procs=design.procs, callers=CALLERS, instances=instances,
                                  host=functions, limits=gothreads.Limits(threads=2 * CALLERS))

    def function(self, export: str) -> Callable[..., Any]:
        return self.app.exports[export]

    def request(self, handler: str, payload: bytes) -> bytes:
        return self.app.request(handler, payload)

    def another(self) -> AppPeer:
        return AppPeer(self._path, self._design, 1 if self._design.model == "pool" else None, self._host)

    def close(self) -> None:
        self.app.close()


def open_peer(design: Design, programs: Programs, host: HostFunction, instances: int | None) -> Peer:
    """The program under a design. GothreadsError when it cannot be opened."""
    if design.model != "native":
        return AppPeer(programs.threaded if design.model == "threaded" else programs.single, design, instances, host)
    if programs.native is None:
        raise BuildError(f"there is no native program: {programs.no_native}")
    return NativePeer(programs.native, programs.exports, host)
