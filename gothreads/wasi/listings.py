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
        # Number of entries, oldest listing first; guarded by _lock.
        self._sizes: weakref.WeakKeyDictionary[Descriptor, int] = weakref.WeakKeyDictionary()

    def keep(self, descriptor: Descriptor, listing: list[tuple[bytes, int, FileType]]) -> None:
        with self._lock:
            self._sizes.pop(descriptor, None)
            total = sum(self._sizes.values())
            for old in list(self._sizes):
                if total + len(listing) <= _MOST_ENTRIES:
                    break
                total -= self._sizes.pop(old)
                old.listing = []  # a thread that is reading it has its own reference
            self._sizes[descriptor] = len(listing)
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
