"""Tells how to mount a path that a module misses, once it reports so.

Go's error ("open /data/x: No such file or directory") cannot name the option, and most missing paths do not matter: so
the module's output is watched for the paths that it has looked up and that are under no mount.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import threading
from dataclasses import dataclass

from gothreads.text import shown
from gothreads.wasi.hints import Hints
from gothreads.wasi.virtual_root import Root

#: The texts of ENOENT and EROFS, in Go and in C.
_ERRORS = (b"o such file or directory", b"ead-only file system")
#: The most that is searched of one write, in bytes.
_MOST_SEARCHED = 16 << 10


class PathHints:
    """Watches one instance of a module. May be used from any thread."""

    def __init__(self, hints: Hints, root: Root, folder: str) -> None:
        """`folder`: the module's working folder."""
        self._hints, self._missed, self._folder = hints, root.missed, folder
        self._lock = threading.Lock()
        self._postponed: list[str] = []  # guarded by _lock: hints to give when the module ends
        self._told = False  # whether there was a hint

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
        created = {missed.path for missed in lookups if missed.creates}
        changed = {posixpath.dirname(path) for path in created}
        for missed in lookups:
            if missed.path in created and not missed.creates:  # os.MkdirAll looks before and after
                continue
            name = os.fsencode(posixpath.basename(missed.path.rstrip("/")))
            if b" %b:" % name in text or b"/%b:" % name in text:
                # os.MkdirTemp reports the folder, of which it has only the inside to create.
                self._give(f"{missed.path}/" if missed.path in changed else missed.path,
                           creates=missed.creates or missed.path in changed, later=not is_whole)

    def end(self, *, failed: bool) -> None:
        """Log what was postponed. Called when the module has ended, perhaps again later. failed: it says so.

        Then it may have missed something that it has not named, as filepath.Glob does: a file or folder of the folder
        that the user is in.
        """
        with self._lock:
            postponed, self._postponed = self._postponed, []
        for hint in postponed:
            self._hints.give(hint)
        if not failed or self._told:
            return
        for missed in reversed(self._missed.copy()):
            if not missed.creates and _is_here(missed.path, self._folder):
                self._give(missed.path, creates=False, later=False)
                return

    def _give(self, path: str, *, creates: bool, later: bool) -> None:
        """Log what to do about a path that no mount covers. later: when the module ends."""
        self._told = True
        found = advice(path, creates=creates, folder=self._folder)
        if not self._hints.take(found.subject):
            return
        hint = (f"no mount covers {shown(path.rstrip('/'))}, so the module cannot use it{shown(found.text)} "
                "(docs/files-and-sockets.md)")
        if later:
            with self._lock:
                self._postponed.append(hint)
        else:
            self._hints.give(hint)


@dataclass(frozen=True)
class Advice:
    """What to do about a path. `text` follows a sentence about it. `subject` is the same for paths with one remedy."""

    text: str
    subject: str


def advice(path: str, *, creates: bool, folder: str) -> Advice:
    """What to do about a path that no mount covers. HOST stands for what only the user knows.

    creates: the path, or if it ends in a slash something in it, was to be created. folder: the module's working folder.
    """
    if path == "/dev/null":
        return Advice(". If os/exec wants it: a module starts no processes; let the host do it, with guest.Call of "
                      "gothreads/guest", path)
    if is_private(path):
        return Advice(". It is private to this machine or its user: mount it only if you trust the module with it",
                      path)
    above, path = posixpath.dirname(path), path.rstrip("/")
    here, home = _here(), _home()
    exists = os.path.exists(path)
    if here not in ("/", home):
        if (creates or exists) and _is_in(path, here):
            option = _option(here, here, "", more=" (with :ro after it, only to read)")
            return Advice(f". Mount the folder that you are in: {option}", option)
        meant = f"{here}{path}"  # if the path was relative
        if folder == "/" and not exists and os.path.exists(posixpath.dirname(meant) if creates else meant):
            option = "--mount .:/app, in Python mounts={'/app': '.'}, env={'PWD': '/app'}"
            return Advice(f". If {meant} is meant: {option}", option)
    if creates and above != "/":
        option = _option(above if os.path.isdir(above) else "HOST", above, "")
    elif exists:
        whole = above if os.path.isfile(path) and above.count("/") > 1 and not _is_in(home, above) else path
        option = _option(whole, whole, ":ro")
    else:
        option = _option("HOST", path, "" if creates else ":ro")
    if creates or exists:
        return Advice(f". Mount what it needs: {option}", option)
    return Advice(f", and this machine has nothing of that name. To put a file or a folder HOST there: {option}",
                  option)


def is_private(path: str) -> bool:
    """Whether it is of the system, or hidden in a user's home: no module should get it for having asked."""
    here, home = _here(), _home()
    if path.startswith(f"{home}/."):
        return True
    if path.startswith(f"{here}/") and here not in ("/", home):
        return False
    return any(_is_in(path, folder) for folder in ("/proc", "/sys", "/dev", "/etc", "/root"))


def _is_here(path: str, folder: str) -> bool:
    """Whether the folder that the user is in has a file or folder that the module has looked up by this path."""
    here = _here()
    if here in ("/", _home()):
        return False
    return (_is_in(path, here) and os.path.exists(path)) or (folder == "/" and os.path.exists(f"{here}{path}"))


def _option(host: str, guest: str, mode: str, more: str = "") -> str:
    """How to mount it, on the command line and in Python. more: a remark about the former."""
    mounts = f"[gothreads.Mount({host!r}, {guest!r}, read_only=True)]" if mode else f"{{{guest!r}: {host!r}}}"
    return f"--mount {shlex.quote(f'{host}:{guest}{mode}')}{more}, in Python mounts={mounts}"


def _is_in(path: str, folder: str) -> bool:
    """Whether the path is the folder, or in it."""
    return f"{path}/".startswith(f"{folder}/")


def _home() -> str:
    return os.path.expanduser("~").rstrip("/")


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "/"
