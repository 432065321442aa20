"""Statistics of an app: frozen values, which metrics, dashboards and the inspector read."""

from __future__ import annotations

from dataclasses import dataclass, field

from gothreads.callback_m import CallbackMStatistics
from gothreads.engine.extension import PATH
from gothreads.mpool import MPoolStatistics


@dataclass(frozen=True)
class GoStatistics:
    """Figures from Go's runtime.

    `goroutines` = `running` + `runnable` + `waiting` (for each other, a lock, a timer) + `syscalls` (in a host call):
    the program's own, including those of calls. `timers`: those that are set; `ms`: threads as Go counts them;
    `collections`: garbage collections so far; `heap`: in bytes. `blocked_calls`: for each call whose goroutine waits,
    the seconds it has been in the module, longest first.
    """

    goroutines: int
    running: int
    runnable: int
    waiting: int
    syscalls: int
    timers: int
    ms: int
    collections: int
    heap: int
    blocked_calls: tuple[float, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class PoolStatistics:
    """Instances: `total` = `idle` + `in_use`.

    `waiting`: threads that wait for an instance. `replaced`: instances whose module has ended, so far.
    """

    limit: int
    total: int
    idle: int
    in_use: int
    waiting: int
    replaced: int


@dataclass(frozen=True, kw_only=True)
class AppStatistics:
    """`memory` and `memory_limit` are in bytes, `uptime` and `compile_seconds` in seconds.

    `compile_seconds` is None if an earlier run compiled the module.
    """

    model: str
    state: str
    uptime: float
    calls: int
    memory: int
    memory_limit: int
    compile_seconds: float | None
    callers: CallbackMStatistics | None = None
    threads: MPoolStatistics | None = None
    go: GoStatistics | None = None
    pool: PoolStatistics | None = None
    #: How calls are made: in "C" or through "ctypes" (engine/extension.py).
    call_path: str = PATH
