"""Virtual folders above a module's mounts: "/", and the folders that lead to each mount.

They contain nothing else, and are read-only. A path that no mount covers must not exist (ENOENT) for the module.
Without these folders Go finds no descriptor for such a path, and returns EBADF, which no program expects. So if
nothing is mounted at "/", the module gets a virtual "/". Single mounted files are in these folders too, because WASI
can hand over only folders.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import posixpath
import stat
import threading
from collections import deque
from dataclasses import dataclass, field

from gothreads.wasi.descriptors import Descriptor, FileType

#: How many missing paths are remembered, for wasi/path_hints.py.
_MOST_MISSED = 64


@dataclass(frozen=True)
class Missed:
    """A path that a module looked up and that no mount covers. `creates`: it was to be created."""

    path: str
    creates: bool


@dataclass(frozen=True)
class File:
    """A single mounted file: its host folder, to which the module has no access, and its name there."""

    folder: Descriptor
    name: bytes


@dataclass(eq=False)
class Place:
    """A virtual folder at `path`. `inside` does not change once the module runs."""

    path: bytes
    inode: int
    missed: deque[Missed]
    inside: dict[bytes, Place | Descriptor | File] = field(default_factory=dict)


class Root:
    """The tree of virtual folders. `missed`: what the module has looked up in vain; appends and copies are atomic."""

    def __init__(self) -> None:
        self.missed: deque[Missed] = deque(maxlen=_MOST_MISSED)
        self._inodes = itertools.count(1)
        self._top = self._new(b"/")

    def add(self, path: str, leaf: Descriptor | File | None = None) -> None:
        """Put `leaf`, or an empty folder if it is None, at an absolute path. No effect if a mount covers the path."""
        place = self._top
        parts = [part for part in os.fsencode(posixpath.normpath(path)).split(b"/") if part]
        last = parts.pop() if leaf is not None else b""
        for part in parts:
            inner = place.inside.setdefault(part, self._new(posixpath.join(place.path, part)))
            if not isinstance(inner, Place):
                return
            place = inner
        if leaf is not None:
            place.inside.setdefault(last, leaf)

    def _new(self, path: bytes) -> Place:
        return Place(path, next(self._inodes), self.missed)

    def view(self) -> Above:
        """A descriptor of "/" to hand to the module."""
        return Above(self._top, preopen=b"/")


def _check_path(path: bytes) -> None:
    if b"\0" in path:
        raise OSError(errno.EINVAL, "NUL in a path")
    if path.startswith(b"/"):
        raise OSError(errno.EPERM, "path leads outside of the folder")
    if not path:
        raise OSError(errno.ENOENT, "empty path")


class Above(Descriptor):
    """A descriptor of a virtual folder. It has no host descriptor: `fd` is -1."""

    counted = False

    def __init__(self, place: Place, preopen: bytes | None = None) -> None:
        self.place = place
        self.type = FileType.DIRECTORY
        self.fd, self.flags, self.preopen = -1, 0, preopen
        self.readable, self.writable, self.read_only = True, False, True
        self.listing, self.lock = [], threading.Lock()

    def find(self, name: bytes, *, creates: bool = False) -> tuple[Descriptor, bytes]:
        """Resolve a path: a host folder and a path in it; or a virtual folder and ".".

        ENOENT if it does not exist. `creates`: the call would create it, which is not possible in virtual folders:
        EROFS.
        """
        _check_path(name)
        visited = [self.place]
        parts = name.split(b"/")
        while parts:
            part = parts.pop(0)
            if part == b"..":
                visited.pop()
                if not visited:
                    raise OSError(errno.EPERM, "path leads outside of the folder")
            elif part not in (b"", b"."):
                found = visited[-1].inside.get(part)
                if isinstance(found, Descriptor):
                    return found, b"/".join(parts).lstrip(b"/") or b"."
                if isinstance(found, File):
                    if parts:
                        raise OSError(errno.ENOTDIR, "a file")
                    return found.folder, found.name
                if found is None:
                    path = os.fsdecode(posixpath.join(visited[-1].path, part, *parts))
                    self.place.missed.append(Missed(path, creates))
                    if creates and not any(parts):
                        raise OSError(errno.EROFS, "read-only virtual folder")
                    raise OSError(errno.ENOENT, "no such file")
                visited.append(found)
        return Above(visited[-1]), b"."

    def entries(self) -> list[tuple[bytes, int, FileType]]:
        """The folder's entries: name, inode, type."""
        found = [(b".", self.place.inode, FileType.DIRECTORY), (b"..", self.place.inode, FileType.DIRECTORY)]
        for name, inner in self.place.inside.items():
            match inner:
                case Place():
                    found.append((name, inner.inode, FileType.DIRECTORY))
                case File():
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found.append((name, os.stat(inner.name, dir_fd=inner.folder.fd).st_ino, FileType.REGULAR_FILE))
                case _:
                    found.append((name, inner.stat().st_ino, FileType.DIRECTORY))
        return found

    def read(self, spans: object, offset: int | None = None) -> int:
        raise OSError(errno.EISDIR, "a folder")

    def stat(self) -> os.stat_result:
        return os.stat_result((stat.S_IFDIR, self.place.inode, 0, 2, 0, 0, 0, *[0] * 9))
