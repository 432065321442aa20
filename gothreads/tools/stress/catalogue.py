"""All scenarios, by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from gothreads.errors import MisuseError
from gothreads.text import cut
from gothreads.tools.stress import call_scenarios as calls
from gothreads.tools.stress import lifecycle_scenarios as lifecycles
from gothreads.tools.stress import storm_scenarios as storms
from gothreads.tools.stress.scenario import Scenario

SCENARIOS: dict[str, type[Scenario]] = {kind.name: kind for kind in (
    storms.Mutex, storms.RWMutex, storms.Channels, storms.Select, storms.Cond, storms.Map, storms.SyncMap, storms.Pool,
    storms.Atomics, storms.Litmus, storms.Goroutines, storms.Garbage, storms.Stacks, storms.TimerStorm, storms.Mix,
    storms.Procs,
    calls.Blocked, calls.Attach, calls.Callbacks, calls.Signals, lifecycles.MemoryLimit, lifecycles.Apps)}


def chosen(names: Sequence[str]) -> list[Scenario]:
    """The named scenarios, or all of them. MisuseError for an unknown name."""
    for name in names:
        if name not in SCENARIOS:
            raise MisuseError(f"there is no scenario {cut(name)}; there are: {', '.join(SCENARIOS)}")
    return [SCENARIOS[name]() for name in names or SCENARIOS]
