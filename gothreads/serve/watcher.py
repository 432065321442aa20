"""Watches the sources of apps: files of modules, and folders of Go programs.

A path may lead over symbolic links, which deployments swap (`current` → `releases/2`): that is a change, after which
other files and folders are watched.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, watch

from gothreads.errors import GothreadsError, MisuseError
from gothreads.files import reason

#: What the Go toolchain reads, besides what is embedded. Tests do not belong to a program.
_GO_SUFFIXES = (".go", ".s", ".mod", ".sum", ".work")
#: After so many milliseconds without a change, those before are reported together.
_QUIET_MILLISECONDS = 50
#: No path leads over more symbolic links (the kernel's limit).
_MOST_LINKS = 40
#: How often a thread looks whether it is to end, in milliseconds.
_LOOK_MILLISECONDS = 200

log = logging.getLogger("gothreads")


@dataclass(frozen=True)
class Sources:
    """What an app is made from: files, the folders of Go modules, with those in them, and of packages without a module.

    links: the symbolic links on the way there. places: what all of these were found from.
    """

    files: frozenset[Path] = frozenset()
    folders: frozenset[Path] = frozenset()
    packages: frozenset[Path] = frozenset()
    links: frozenset[Path] = frozenset()
    places: tuple[str | Path, ...] = ()

    @classmethod
    def of(cls, *places: str | Path) -> Sources:
        """Those of a module's file, or of a package in a folder or a .go file; and further files.

        MisuseError if one is the import path of a package, whose files only Go knows.
        """
        files, folders, packages, links = set[Path](), set[Path](), set[Path](), set[Path]()
        for place in map(Path, places):
            try:
                path = place.resolve()
            except RuntimeError:  # links that lead in a circle
                path = place
            if path.is_dir() or path.suffix == ".go":
                package = path if path.is_dir() else path.parent
                module = _go_module(package)
                (packages if module is None else folders).add(module or package)
            elif path.is_file():
                files.add(path)
            else:
                raise MisuseError(f"--watch is for files and folders, and {place} is neither")
            links |= _links(place)
        return cls(frozenset(files), frozenset(folders), frozenset(packages), frozenset(links), places)

    def again(self) -> Sources:
        """What is there now. While something is missing: the same as before."""
        try:
            return Sources.of(*self.places)
        except (MisuseError, OSError):
            return self

    def have(self, path: Path) -> bool:
        if path in self.files or path in self.links:
            return True
        is_go = path.suffix in _GO_SUFFIXES and not path.name.endswith("_test.go")
        return is_go and (path.parent in self.packages or any(map(path.is_relative_to, self.folders)))


def _go_module(folder: Path) -> Path | None:
    """The folder of the Go module that a package belongs to, if it belongs to one."""
    return next((above for above in (folder, *folder.parents) if (above / "go.mod").exists()), None)


def _links(place: Path) -> set[Path]:
    """The symbolic links on the way to a place."""
    found = set[Path]()
    at, left = Path("/"), [*reversed(place.absolute().parts[1:])]
    while left and len(found) <= _MOST_LINKS:
        name = left.pop()
        if name == "..":
            at = at.parent
        elif (at / name).is_symlink():
            found.add(at / name)
            target = Path(os.readlink(at / name))
            at = Path("/") if target.is_absolute() else at
            left += reversed(target.parts[target.is_absolute():])
        else:
            at /= name
    return found


class Watcher:
    """Watches from when it is made, and reports from when `report` is called: nothing between the two is lost.

    When a link has changed, what it leads to now is watched before that is reported, and what it led to until then. So
    nothing is lost then either, though it may be reported twice.

    GothreadsError if the system does not allow to watch.
    """

    def __init__(self, sources: Sequence[Sources]) -> None:
        self._sources = [*sources]
        self._changed: Callable[[int, Sequence[Path]], object]
        self._reports = threading.Event()
        self._failed: str | None = None
        self._looking, self._lock = threading.Lock(), threading.Lock()
        # Guarded by _lock.
        self._stopped = False
        self._stop = threading.Event()  # of the threads that watch now
        self._watch()
        if self._failed is not None:
            self.stop()
            raise GothreadsError(self._failed)

    def report(self, changed: Callable[[int, Sequence[Path]], object]) -> None:
        """Call `changed`, on another thread, with the place of each of the sources that has changed, and its files."""
        self._changed = changed
        self._reports.set()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._stop.set()
        self._reports.set()

    def _watch(self) -> None:
        """Watch what the sources are now, on threads of their own, in place of those before."""
        folders = {folder for one in self._sources for folder in one.folders}
        # A file may be replaced by another, and a link, so its folder is watched.
        flat = {folder for one in self._sources
                for folder in (*one.packages, *(file.parent for file in (*one.files, *one.links)))}
        stop = threading.Event()
        for places, recursive in ((folders, True), (flat, False)):
            if places:
                begun = threading.Event()
                threading.Thread(target=self._run, args=(sorted(places), recursive, begun, stop),
                                 name="gothreads-sources", daemon=True).start()
                begun.wait()
        with self._lock:
            old, self._stop = self._stop, stop
            if self._stopped:
                stop.set()
        old.set()

    def _look_again(self, paths: Sequence[Path]) -> None:
        """Watch something else, if links among these lead elsewhere now."""
        with self._looking:
            renewed = [one.again() if one.links.intersection(paths) else one for one in self._sources]
            if renewed != self._sources:
                self._sources = renewed
                self._watch()

    def _run(self, places: Sequence[Path], recursive: bool, begun: threading.Event, stop: threading.Event) -> None:
        try:
            for changes in watch(*places, watch_filter=self._concerns, step=_QUIET_MILLISECONDS, recursive=recursive,
                                 rust_timeout=_LOOK_MILLISECONDS, yield_on_timeout=True, stop_event=stop):
                begun.set()  # what changes from now on is seen
                if not changes:
                    continue
                self._reports.wait()
                if self._stopped:
                    return
                paths = sorted({Path(path) for _, path in changes})
                changed = {number: files for number, one in enumerate(self._sources)
                           if (files := list(filter(one.have, paths)))}
                self._look_again(paths)
                for number, files in changed.items():
                    self._changed(number, files)
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no room for another inotify instance
            why = reason(error) if isinstance(error, OSError) else error
            self._failed = f"--watch cannot watch {', '.join(map(str, places))}: {why}"
            if begun.is_set() or self._reports.is_set():  # else __init__ raises it
                log.error("%s. Changes there are not noticed any more", self._failed)
        finally:
            begun.set()

    def _concerns(self, _change: Change, path: str) -> bool:
        return any(one.have(Path(path)) for one in self._sources)
