"""What `gothreads top` shows: figures of an app, again and again, from a module that it runs or from a server."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gothreads.cli.profile_sources import ServerSource
from gothreads.errors import GothreadsError, MisuseError
from gothreads.profiles.profile import Profile
from gothreads.runtime.app import App
from gothreads.runtime.state import State
from gothreads.text import printable

#: Go's own packages: a goroutine is where the innermost function of another one is.
_GO_ITSELF = ("runtime.", "internal/", "sync.", "time.Sleep")
#: The longest event that is taken from a server, in bytes; how long it may be silent, in seconds.
_MOST_EVENT, _SILENT_SECONDS = 4 << 20, 30.0


@dataclass(frozen=True)
class Place:
    """So many goroutines are in a function of the program, and do or wait for the same. Of `gothreads top --json`."""

    count: int
    state: str
    function: str


@dataclass(frozen=True)
class Figures:
    """Of one moment. app: as the server's dashboard has them. places: None: `no_places` says why they are not seen."""

    app: Mapping[str, Any]
    places: tuple[Place, ...] | None
    no_places: str = ""


def places(profile: Profile) -> tuple[Place, ...]:
    """Where the goroutines are, the most frequent first."""
    found: Counter[tuple[str, str]] = Counter()
    for sample in profile.samples:
        names = [line.function for line in sample.stack]
        own = next((name for name in names if not name.startswith(_GO_ITSELF)), names[0] if names else "?")
        found[dict(sample.labels).get("state", "?"), own] += sample.values[-1]
    return tuple(Place(count, state, function) for (state, function), count in
                 sorted(found.items(), key=lambda each: (-each[1], each[0])))


def of_module(app: App, every: float) -> Iterator[Figures]:
    """Figures of a module, until it ends."""
    while app.state is State.RUNNING:
        statistics = app.statistics()
        shown: dict[str, Any] = {name: part and asdict(part) for name in ("callers", "threads", "go")
                                 if (part := getattr(statistics, name)) is not None}
        shown |= {"model": statistics.model, "state": statistics.state, "uptime": statistics.uptime,
                  "in_progress": statistics.calls_in_progress, "memory": statistics.memory,
                  "memory_limit": statistics.memory_limit, "calls": None}
        try:
            yield Figures(shown, places(app.profile("goroutine")))
        except (GothreadsError, TimeoutError) as error:
            yield Figures(shown, None, printable(str(error)))
        time.sleep(every)


def of_server(server: ServerSource, every: float) -> Iterator[Figures]:
    """Figures of an app on a server, until that ends. GothreadsError: it cannot be reached, or refuses."""
    known = json.loads(server.get("/api/dashboard", _SILENT_SECONDS))["apps"]
    names = [each["name"] for each in known]
    if server.app not in names and (server.app or len(names) != 1):
        raise MisuseError(f"which app? Name one of them with --app: {', '.join(names)}")
    of_one = ServerSource(server.url, server.key, server.app or names[0])
    shown = 0.0
    for figures in _events(of_one):
        # The first has no calls yet: they are counted from it on.
        if figures["calls"] is None or time.monotonic() - shown < every - 0.5:
            continue
        shown = time.monotonic()
        try:
            yield Figures(figures, places(of_one.take("goroutine", None, None)))
        except GothreadsError as error:
            yield Figures(figures, None, str(error))


def _events(server: ServerSource) -> Iterator[dict[str, Any]]:
    """The figures that a server sends."""
    kind = ""
    for line in server.lines(f"/api/apps/{server.app}/live", _SILENT_SECONDS, _MOST_EVENT):
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "figures":
            yield json.loads(value)
