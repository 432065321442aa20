"""All scenarios, by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from gothreads.errors import MisuseError
from gothreads.text import cut
from gothreads.tools.stress import calling, lives, storms
from gothreads.tools.stress.scenario import Scenario

SCENARIOS: dict[str, type[Scenario]] = {kind.name: kind for kind in (
    storms.Mutex, storms.RWMutex, storms.Channels, storms.Select, storms.Cond, storms.Map, storms.SyncMap, storms.Pool, storms.Atomics, storms.Litmus,
    storms.Goroutines, storms.Garbage, storms.Stacks, storms.Timers, storms.Mix, storms.Procs, calling.Blocked, calling.Attach, calling.Callbacks,
    calling.Signals, lives.Memory, lives.Apps)}


def chosen(names: Sequence[str]) -> list[Scenario]:
    """Those that are named, or all. MisuseError for a name that is not there."""
    for name in names:
        if name not in SCENARIOS:
            raise MisuseError(f"there is no scenario {cut(name)}; there are: {', '.join(SCENARIOS)}")
    return [SCENARIOS[name]() for name in names or SCENARIOS]
