"""What lies in the cache folder, and the bound on its size.

When machine code is added, the files that were used least recently go until the bound is kept (`trim`). Other
processes may use the cache meanwhile, without a lock:

- A file's modification time says when it was last used: `files` sets it when it opens a file. No file goes that was
  used within a grace period, so what a process is about to open stays, although it may be over the bound for so long.
- The checksum goes first. A file without it does not count (`files`), so a process that comes between makes the file
  again; one that has the file open, or mapped, keeps it.
- A linked program goes only while no build holds its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gothreads.errors import GothreadsError
from gothreads.files import cache_folder, checksum_of
from gothreads.text import lacks_unit, size_in_bytes

log = logging.getLogger("gothreads")

#: The environment variable with the bound, such as 500M; 0: none.
LIMIT = "GOTHREADS_CACHE_LIMIT"
_DEFAULT_LIMIT = 5 << 30


class _Kind(NamedTuple):
    """Files of one subfolder.

    stays, stays_when_cleaned: how many seconds after its last use `trim` and `clean` leave a file alone.
    """

    words: str
    stays: float
    stays_when_cleaned: float


_HOUR, _DAY, _MINUTE = 3600.0, 86400.0, 60.0
_KINDS = {"compiled": _Kind("machine code", _HOUR, _MINUTE),
          "modules": _Kind("finished WebAssembly modules", _HOUR, _MINUTE),
          "remote": _Kind("modules that other machines have sent", _HOUR, _MINUTE),
          "linked": _Kind("programs that Go has linked", _HOUR, _MINUTE),
          "overlay": _Kind("edited files of Go", _DAY, _DAY),  # a build may read them for as long as it runs
          "compare": _Kind("programs of gothreads compare", _DAY, _MINUTE)}
#: These go when the bound is exceeded. The others are small.
_BOUNDED = ("compiled", "modules", "remote", "linked")
_OTHER = "other"


@dataclass(frozen=True)
class Entry:
    """A file in the cache. `used` is the time of its last use, in seconds since 1970."""

    path: Path
    kind: str
    size: int
    used: float


@dataclass(frozen=True)
class Contents:
    """The cache's folder, and the size of what lies there, in bytes. `limit` is None if there is none."""

    folder: Path
    limit: int | None
    sizes: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.sizes.values())

    @property
    def bounded(self) -> int:
        """The size of what the limit is for."""
        return sum(self.sizes[kind] for kind in _BOUNDED)


def limit() -> int | None:
    """The bound on the cache's size, in bytes."""
    text = os.environ.get(LIMIT)
    if not text:
        return _DEFAULT_LIMIT
    if (size := size_in_bytes(text)) is None:
        log.warning("%s=%s is not a size, such as 500M or 10G: the cache is bounded to %sG", LIMIT, text,
                    _DEFAULT_LIMIT >> 30)
        return _DEFAULT_LIMIT
    if lacks_unit(text):
        log.warning("%s=%s is %s bytes. Did you mean %sG?", LIMIT, text, f"{size:,}", text)
    return size or None


def contents() -> Contents:
    """What the cache holds, by kind."""
    folder = cache_folder()
    sizes = dict.fromkeys((*_KINDS, _OTHER), 0)
    for entry in _entries(folder):
        sizes[entry.kind] += entry.size
    return Contents(folder, limit(), sizes)


def description(kind: str) -> str:
    """What files of a kind are, for people."""
    if kind not in _KINDS:
        return "gothreads' own tools, and what it does not know; they stay"
    return _KINDS[kind].words + (", in the limit" if kind in _BOUNDED else "")


def trim() -> int:
    """Remove what was used least recently until the bound is kept; returns how many bytes went. Never raises."""
    try:
        folder, most = cache_folder(), limit()
        if most is None:
            return 0
        entries = sorted(_entries(folder, _BOUNDED), key=lambda entry: entry.used)
        excess = sum(entry.size for entry in entries) - most
        gone = _remove(entries, excess, {kind: _KINDS[kind].stays for kind in _BOUNDED})
    except (GothreadsError, OSError) as error:
        log.info("the cache's size is not bounded this time: %s", error)
        return 0
    if gone:
        log.info("removed %.0f MB from the cache (%s): more than %.1f GB were in it", gone / 1e6, folder, most / 1e9)
    return gone


def clean() -> int:
    """Remove everything that is not in use and that gothreads makes again; returns how many bytes went.

    GothreadsError if the cache cannot be used.
    """
    entries = list(_entries(cache_folder(), tuple(_KINDS)))
    stays = {name: kind.stays_when_cleaned for name, kind in _KINDS.items()}
    return _remove(entries, sum(entry.size for entry in entries), stays)


def _entries(folder: Path, kinds: Sequence[str] | None = None) -> Iterator[Entry]:
    """The files below the folder, of these kinds or of all. Checksums count as part of their files."""
    for at, _, names in os.walk(folder):
        parts = Path(at).relative_to(folder).parts
        kind = parts[0] if parts and parts[0] in _KINDS else _OTHER
        if kinds is not None and kind not in kinds:
            continue
        for name in names:
            path = Path(at, name)
            if name == "lock":
                continue
            with contextlib.suppress(OSError):  # another process has removed it
                about = path.lstat()
                yield Entry(path, kind, about.st_size, about.st_mtime)


def _remove(entries: Sequence[Entry], size: int, stays: Mapping[str, float]) -> int:
    """Remove files, the first ones first, until so many bytes have gone; returns how many have.

    stays: how many seconds after its last use a file stays, by kind.
    """
    gone, now = 0, time.time()
    for entry in entries:
        if gone >= size:
            break
        if entry.used <= now - stays[entry.kind]:
            gone += _removed(entry)
    return gone


def _removed(entry: Entry) -> int:
    """Remove a file and its checksum, unless it has been used meanwhile; returns how many bytes that frees."""
    path = entry.path
    if path.suffix == ".crc" and path.with_suffix("").exists():
        return 0  # goes with its file
    checksum = checksum_of(path)
    with contextlib.suppress(OSError), _not_being_built(entry):
        if path.lstat().st_mtime != entry.used:
            return 0
        size = entry.size
        with contextlib.suppress(FileNotFoundError):
            size += checksum.lstat().st_size
            checksum.unlink()
        path.unlink()
        return size
    return 0


@contextlib.contextmanager
def _not_being_built(entry: Entry) -> Iterator[None]:
    """Hold the lock of a linked program, if it is one. OSError if a build holds it."""
    if entry.kind != "linked":
        yield
        return
    with (entry.path.parent / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
