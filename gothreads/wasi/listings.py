"""Folder listings, which fd_readdir reads in parts."""

from __future__ import annotations

import os
import threading
import weakref

from gothreads.wasi.descriptors import Descriptor, FileType

#: How many folder entries are kept in all of an app's listings, not counting the latest listing.
_MOST_ENTRIES = 1 << 19


class Listings:
    """Limits the folder listings that descriptors keep while a module reads them.

    A listing is a snapshot taken when reading begins, stored in its descriptor. Many descriptors may be open on one
    large folder, so beyond _MOST_ENTRIES entries the oldest listings are dropped; a dropped one is read again when its
    reader continues. May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock: descriptors and the number of entries, the oldest listing first. Not a WeakKeyDictionary,
        # which changes whenever a thread drops a descriptor, also while it is iterated.
        self._kept: list[tuple[weakref.ref[Descriptor], int]] = []

    def keep(self, descriptor: Descriptor, listing: list[tuple[bytes, int, FileType]]) -> None:
        with self._lock:
            others = [(old, size) for reference, size in self._kept
                      if (old := reference()) is not None and old is not descriptor]
            total, dropped = len(listing) + sum(size for _, size in others), 0
            while total > _MOST_ENTRIES and dropped < len(others):
                old, size = others[dropped]
                old.listing = []  # a thread that is reading it has its own reference
                total, dropped = total - size, dropped + 1
            self._kept = [(weakref.ref(old), size) for old, size in others[dropped:]]
            self._kept.append((weakref.ref(descriptor), len(listing)))
            descriptor.listing = listing


def read_folder(fd: int) -> list[tuple[bytes, int, FileType]]:
    """The entries of a host folder: name, inode, type."""
    own = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)  # opened again for a separate read position
    try:
        inode = os.fstat(own).st_ino
        entries = [(b".", inode, FileType.DIRECTORY), (b"..", inode, FileType.DIRECTORY)]
        with os.scandir(own) as scan:
            entries += [(os.fsencode(entry.name), entry.inode(), _type(entry)) for entry in scan]
        return entries
    finally:
        os.close(own)


def _type(entry: os.DirEntry[str]) -> FileType:
    if entry.is_symlink():
        return FileType.SYMBOLIC_LINK
    if entry.is_dir(follow_symlinks=False):
        return FileType.DIRECTORY
    return FileType.REGULAR_FILE if entry.is_file(follow_symlinks=False) else FileType.UNKNOWN
