"""The designs that are compared. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gothreads.errors import MisuseError


@dataclass(frozen=True)
class Design:
    """One way to run the program. `model`: as gothreads.open takes it, or "native"; `procs`: GOMAXPROCS; `instances`:
    of a pool.
    """

    name: str
    model: str
    procs: int
    instances: int | None
    about: str

    @property
    def one_at_a_time(self) -> bool:
        """Whether a call excludes all others."""
        return self.model in ("single", "idle")

    @property
    def stands_still(self) -> bool:
        """Whether nothing moves between calls."""
        return self.model in ("single", "pool")


def steps(processors: int, *, between: bool = True) -> list[int]:
    """1, 2, 4, … up to the number of processors; only the first and the last unless `between`."""
    return sorted({1, processors, *(1 << power for power in range(1, 10) if between and 1 << power < processors)})


def designs(processors: int, *, quick: bool = False) -> list[Design]:
    """The designs for a machine with that many processors."""
    threaded = [Design(f"threaded-{procs}", "threaded", procs, None,
                       f"one module on threads, {procs} proc{'s' * (procs > 1)}, as gothreads rewrites it")
                for procs in steps(processors, between=not quick)]
    return [*threaded,
            Design("single", "single", 1, None,
                   "stock Go's module behind a lock: one call at a time, and it stands still between calls"),
            Design("idle", "idle", 1, None, "stock Go; what a call started runs on until every goroutine waits"),
            Design("pool", "pool", 1, processors,
                   f"stock Go, {processors} instance{'s' * (processors > 1)} that share nothing"),
            Design("native", "native", processors, None,
                   "no WebAssembly: go build -buildmode=c-shared, called through ctypes")]


def reference(among: Sequence[Design]) -> Design:
    """The design that the others are compared with: threads, with the most procs. MisuseError when there is none."""
    threaded = [design for design in among if design.model == "threaded"]
    if not threaded:
        raise MisuseError("a comparison needs a threaded design to compare the others with")
    return max(threaded, key=lambda design: design.procs)
