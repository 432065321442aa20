"""Tells how to mount a path that a module misses, once it reports so.

Go's error ("open /data/x: No such file or directory") cannot name the option, and most missing paths do not matter: so
the module's output is watched for the paths that it has looked up and that are under no mount.
"""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
import shlex
import threading

from gothreads.text import shown
from gothreads.wasi.virtual_root import Root

log = logging.getLogger("gothreads")

#: The texts of ENOENT and EROFS, in Go and in C.
_ERRORS = (b"o such file or directory", b"ead-only file system")
#: The most that is searched of one write, in bytes.
_MOST_SEARCHED = 16 << 10
#: How many paths are told of.
_MOST_TOLD = 8


class PathHints:
    """Watches one module. May be used from any thread. `name`: the module's."""

    def __init__(self, name: str, root: Root) -> None:
        self._name, self._missed = name, root.missed
        self._lock = threading.Lock()
        # Guarded by _lock: the paths that were found; and those to tell of when the module ends.
        self._found: set[str] = set()
        self._postponed: list[tuple[str, str]] = []

    def watch(self, text: bytes) -> None:
        """Log how to mount the paths that this text, which the module has written, says are missing.

        In the middle of a line, as in a panic, that waits until the module ends.
        """
        if not self._missed:
            return
        text, is_whole = text[:_MOST_SEARCHED], text.endswith(b"\n")
        if not any(error in text for error in _ERRORS):
            return
        lookups = list(dict.fromkeys(reversed(self._missed.copy())))
        changed = {posixpath.dirname(missed.path) for missed in lookups if missed.creates}
        for missed in lookups:
            name = os.fsencode(posixpath.basename(missed.path.rstrip("/")))
            if b" %b:" % name in text or b"/%b:" % name in text:
                # os.MkdirTemp reports the folder, of which it has only the inside to create.
                hint = advice(f"{missed.path}/" if missed.path in changed else missed.path,
                              creates=missed.creates or missed.path in changed)
                if self._takes(missed.path, hint, later=not is_whole):
                    self._tell(missed.path, hint)

    def end(self) -> None:
        """Log what was postponed. Called when the module has ended, perhaps again later."""
        with self._lock:
            postponed, self._postponed = self._postponed, []
        for path, hint in postponed:
            self._tell(path, hint)

    def _takes(self, path: str, hint: str, *, later: bool) -> bool:
        """Whether to tell of it now."""
        with self._lock:
            if path in self._found or len(self._found) == _MOST_TOLD:
                return False
            self._found.add(path)
            if later:
                self._postponed.append((path, hint))
            return not later

    def _tell(self, path: str, hint: str) -> None:
        with contextlib.suppress(Exception):  # a filter's: the module's write has succeeded
            log.warning("%s: no mount covers %s, so the module cannot use it%s (docs/files-and-sockets.md)", self._name,
                        shown(path), shown(hint))


def advice(path: str, *, creates: bool) -> str:
    """What to do about a path that no mount covers, to follow a sentence about it. Arguments: as of how_to_mount."""
    options = how_to_mount(path, creates=creates)
    if creates or os.path.exists(path):
        return f". Mount what it needs: {options}"
    return f", and this machine has nothing of that name. To put a file or a folder HOST there: {options}"


def how_to_mount(path: str, *, creates: bool) -> str:
    """The options that give a module a path that no mount covers. HOST stands for what only the user knows.

    creates: the path, or if it ends in a slash something in it, was to be created.
    """
    above, path = posixpath.dirname(path), path.rstrip("/")
    if creates and above != "/":
        host, guest, mode = above if os.path.isdir(above) else "HOST", above, ""
    elif os.path.exists(path):  # a relative path, or one that was meant to be the host's
        host, guest, mode = path, path, ":ro"
    else:
        host, guest, mode = "HOST", path, "" if creates else ":ro"
    mounts = f"[gothreads.Mount({host!r}, {guest!r}, read_only=True)]" if mode else f"{{{guest!r}: {host!r}}}"
    return f"--mount {shlex.quote(f'{host}:{guest}{mode}')}, in Python mounts={mounts}"
