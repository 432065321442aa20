"""WASI preview 1, except the functions that each instance's own wasmtime store provides (LOCAL)."""

from __future__ import annotations

from collections.abc import Callable

from gothreads.wasi.calls.clock import ClockCalls
from gothreads.wasi.calls.fd import FdCalls
from gothreads.wasi.calls.path import PathCalls
from gothreads.wasi.calls.poll import PollCalls
from gothreads.wasi.calls.proc import ProcCalls
from gothreads.wasi.calls.sock import SockCalls
from gothreads.wasi.process import Process
from gothreads.wasi.simulation import Simulation

#: Functions without shared state, which wasmtime implements: arguments, environment, clock, random numbers, yielding.
LOCAL = frozenset({"args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "clock_time_get", "clock_res_get",
                   "random_get", "sched_yield"})


class WasiCalls:
    """The functions over one process. One object serves all instances of a module, on all their threads at once."""

    def __init__(self, process: Process, simulation: Simulation | None = None) -> None:
        self._path, self._poll = PathCalls(process), PollCalls(process, simulation)
        #: By the first part of the functions' names.
        self._areas = {"fd": FdCalls(process), "path": self._path, "poll": self._poll,
                       "sock": SockCalls(process), "clock": simulation or ClockCalls(process), "proc": ProcCalls(),
                       "random": simulation}

    def function(self, name: str) -> Callable[..., None] | None:
        """The implementation of a function; None if it is not here."""
        area = self._areas.get(name.partition("_")[0])
        found: Callable[..., None] | None = None if area is None else getattr(area, name, None)
        return found

    def end(self) -> None:
        """The app is ending: wake the threads that are blocked in an open."""
        self._path.end()

    def close(self) -> None:
        """Free everything. No thread may be in a call."""
        self._path.close()
        self._poll.close()
