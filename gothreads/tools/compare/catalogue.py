"""All workloads, in the order in which they are measured and shown."""

from __future__ import annotations

from gothreads.tools.compare import call_workloads as calls
from gothreads.tools.compare import fresh_workloads as fresh
from gothreads.tools.compare import waiting_workloads as waiting
from gothreads.tools.compare.options import NAMES
from gothreads.tools.compare.workload import Workload

#: By name.
WORKLOADS: dict[str, type[Workload]] = {kind.name: kind for kind in (
    calls.Computing, calls.Looping, calls.Allocating, calls.Short, calls.Locked, calls.Sharded, calls.Ring,
    calls.Callback, calls.Bytes,
    waiting.Blocking, waiting.Meeting, waiting.Background, waiting.QuietTimers, waiting.IdleCPU,
    fresh.Start, fresh.ColdStart, fresh.BlockedCallers, fresh.BlockedCallersWithData)}
assert tuple(WORKLOADS) == NAMES
