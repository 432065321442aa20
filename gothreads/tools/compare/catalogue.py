"""All workloads, in the order in which they are measured and shown."""

from __future__ import annotations

from gothreads.tools.compare.options import NAMES
from gothreads.tools.compare.work_calls import Allocating, Bytes, Callback, Computing, Locked, Looping, Ring, Sharded, Short
from gothreads.tools.compare.work_fresh import Blocked, BlockedWithData, ColdStart, Start
from gothreads.tools.compare.work_waiting import Background, Blocking, IdleCPU, Meeting, Timers
from gothreads.tools.compare.workload import Workload

#: By name.
WORKLOADS: dict[str, type[Workload]] = {kind.name: kind for kind in (
    Computing, Looping, Allocating, Short, Locked, Sharded, Ring, Callback, Bytes, Blocking, Meeting, Background, Timers, IdleCPU, Start, ColdStart,
    Blocked, BlockedWithData)}
assert tuple(WORKLOADS) == NAMES
