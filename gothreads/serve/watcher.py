"""Watches the sources of apps: files of modules, and folders of Go programs."""

from __future__ import annotations

import logging
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
#: How often a thread looks whether it is to end, in milliseconds.
_LOOK_MILLISECONDS = 200

log = logging.getLogger("gothreads")


@dataclass(frozen=True)
class Sources:
    """What an app is made from: files, the folders of Go modules, with those in them, and of packages without a module.
    """

    files: frozenset[Path] = frozenset()
    folders: frozenset[Path] = frozenset()
    packages: frozenset[Path] = frozenset()

    @classmethod
    def of(cls, *places: str | Path) -> Sources:
        """Those of a module's file, or of a package in a folder or a .go file; and further files.

        MisuseError if one is the import path of a package, whose files only Go knows.
        """
        files, folders, packages = set[Path](), set[Path](), set[Path]()
        for place in map(Path, places):
            path = place.resolve()
            if path.is_dir() or path.suffix == ".go":
                package = path if path.is_dir() else path.parent
                module = _go_module(package)
                (packages if module is None else folders).add(module or package)
            elif path.is_file():
                files |= {path, place.absolute()}  # a link may lead to another file, or its target may change
            else:
                raise MisuseError(f"--watch is for files and folders, and {place} is neither")
        return cls(frozenset(files), frozenset(folders), frozenset(packages))

    def have(self, path: Path) -> bool:
        if path in self.files:
            return True
        is_go = path.suffix in _GO_SUFFIXES and not path.name.endswith("_test.go")
        return is_go and (path.parent in self.packages or any(map(path.is_relative_to, self.folders)))


def _go_module(folder: Path) -> Path | None:
    """The folder of the Go module that a package belongs to, if it belongs to one."""
    return next((above for above in (folder, *folder.parents) if (above / "go.mod").exists()), None)


class Watcher:
    """Watches from when it is made, and reports from when `report` is called: nothing between the two is lost.

    GothreadsError if the system does not allow to watch.
    """

    def __init__(self, sources: Sequence[Sources]) -> None:
        self._sources = sources
        self._changed: Callable[[int], object]
        self._reports, self._stop = threading.Event(), threading.Event()
        self._failed: str | None = None
        folders = {folder for one in sources for folder in one.folders}
        # A file may be replaced by another, so its folder is watched.
        flat = {folder for one in sources for folder in (*one.packages, *(file.parent for file in one.files))}
        for places, recursive in ((folders, True), (flat, False)):
            if places:
                self._start(sorted(places), recursive=recursive)

    def report(self, changed: Callable[[int], object]) -> None:
        """Call `changed`, on another thread, with the place of each of the sources that has changed."""
        self._changed = changed
        self._reports.set()

    def stop(self) -> None:
        self._stop.set()
        self._reports.set()

    def _start(self, places: Sequence[Path], *, recursive: bool) -> None:
        begun = threading.Event()
        threading.Thread(target=self._run, args=(places, recursive, begun), name="gothreads-sources",
                         daemon=True).start()
        begun.wait()
        if self._failed is not None:
            self.stop()
            raise GothreadsError(self._failed)

    def _run(self, places: Sequence[Path], recursive: bool, begun: threading.Event) -> None:
        try:
            for changes in watch(*places, watch_filter=self._concerns, step=_QUIET_MILLISECONDS, recursive=recursive,
                                 rust_timeout=_LOOK_MILLISECONDS, yield_on_timeout=True, stop_event=self._stop):
                begun.set()  # what changes from now on is seen
                if not changes:
                    continue
                self._reports.wait()
                if self._stop.is_set():
                    return
                paths = [Path(path) for _, path in changes]
                for number, one in enumerate(self._sources):
                    if any(map(one.have, paths)):
                        self._changed(number)
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no room for another inotify instance
            why = reason(error) if isinstance(error, OSError) else error
            self._failed = f"--watch cannot watch {', '.join(map(str, places))}: {why}"
            if begun.is_set():
                log.error("%s. Changes there are not noticed any more", self._failed)
        finally:
            begun.set()

    def _concerns(self, _change: Change, path: str) -> bool:
        return any(one.have(Path(path)) for one in self._sources)
