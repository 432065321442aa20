"""The sandbox for files: opens paths beneath a folder, and never outside of it.

Paths come from the module. They, and the symbolic links on their way, may contain anything, and folders may be swapped
for links during the lookup. So the kernel does the whole lookup: openat2 with RESOLVE_BENEATH (openat2(2), Linux 5.6).
Where openat2 is missing or not allowed, the parts of the path are opened one by one, and a link is followed only by
reading it and looking its target up in the same way.

Functions take the folder's descriptor, raise OSError, and may be called from any thread. EPERM: the path leads outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import Iterator

_OPENAT2 = 437  # the same on all Linux architectures
_NO_MAGIC_LINKS, _BENEATH = 0x02, 0x08
_MOST_LINKS = 40  # Linux's limit
_HOW = struct.Struct("<QQQ")  # struct open_how: flags, mode, resolve
_syscall = ctypes.CDLL(None, use_errno=True).syscall
#: Flag to open a descriptor that only refers to a file, without access to its contents, where the system has it.
PLACE = getattr(os, "O_PATH", os.O_RDONLY)


def open_beneath(folder: int, path: bytes, flags: int, mode: int = 0o666) -> int:
    """Like os.open, for a path beneath a folder. O_NOFOLLOW concerns the path's last part. Close-on-exec."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, "NUL in a path")
    return lookup(folder, path, flags | os.O_CLOEXEC, mode)


def stat_beneath(folder: int, path: bytes, *, follow: bool) -> os.stat_result:
    """Like os.stat, for a path beneath a folder."""
    descriptor = open_beneath(folder, path, PLACE if follow else PLACE | os.O_NOFOLLOW)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def parent(folder: int, path: bytes, *, special: int = errno.EINVAL) -> Iterator[tuple[int, bytes]]:
    """Context: a descriptor of the folder with a path's last part, and that part, for calls that follow no link.

    A slash after the last part is kept. `special` is the error if the last part is "." or "..".
    """
    if b"\0" in path:
        raise OSError(errno.EINVAL, "NUL in a path")
    if path.startswith(b"/"):
        raise OSError(errno.EPERM, "path leads outside of the folder")
    stripped = path.rstrip(b"/")
    above, _, name = stripped.rpartition(b"/")
    if not name:
        raise OSError(errno.ENOENT, "empty path")
    if name in (b".", b".."):
        raise OSError(special, "path ends with . or ..")
    if stripped != path:
        name += b"/"
    if not above:
        yield folder, name
        return
    descriptor = open_beneath(folder, above, PLACE | os.O_DIRECTORY)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def followed(folder: int, path: bytes) -> bytes:
    """Resolve links in the path's last part, until it is not a link: for calls that cannot follow links safely."""
    for _ in range(_MOST_LINKS):
        with parent(folder, path) as (above, name):
            try:
                target = os.readlink(name.rstrip(b"/"), dir_fd=above)
            except OSError as error:
                if error.errno == errno.EINVAL:  # not a link
                    # Without the slash: it would make the call follow a link that has taken this place meanwhile.
                    return path.rstrip(b"/")
                raise
        if target.startswith(b"/"):
            raise OSError(errno.EPERM, "path leads outside of the folder")
        above_it, slash, _ = path.rstrip(b"/").rpartition(b"/")
        path = above_it + slash + target
    raise OSError(errno.ELOOP, "too many links")


def open_with_openat2(folder: int, path: bytes, flags: int, mode: int) -> int:
    how = _HOW.pack(flags, mode if flags & os.O_CREAT else 0, _BENEATH | _NO_MAGIC_LINKS)
    for _ in range(1000):
        descriptor: int = _syscall(_OPENAT2, folder, path, how, len(how))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed during the lookup
            break
    raise OSError(errno.EPERM if number == errno.EXDEV else number, os.strerror(number))


def open_part_by_part(folder: int, path: bytes, flags: int, mode: int) -> int:
    """Open the path part by part, without openat2.

    `open_folders` are the folders from the root of the lookup to the current one. ".." returns to the previous of
    these, and is never looked up in the file system.
    """
    flags, follow_last = _last_part_flags(path, flags)
    left = deque(_parts(path))
    open_folders = [os.dup(folder)]
    links = 0
    try:
        while left:
            part = left.popleft()
            if part == b"..":
                if len(open_folders) == 1:
                    raise OSError(errno.EPERM, "path leads outside of the folder")
                os.close(open_folders.pop())
                continue
            here, last = open_folders[-1], not left
            if not last or follow_last:
                target = _link_target(here, part)
                if target is not None:
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, "too many links")
                    if target.startswith(b"/"):
                        raise OSError(errno.EPERM, "path leads outside of the folder")
                    left.extendleft(reversed(_parts(target)))
                    continue
            if last:
                return os.open(part, flags | os.O_NOFOLLOW, mode, dir_fd=here)
            open_folders.append(os.open(part, PLACE | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here))
        return os.open(b".", flags, mode, dir_fd=open_folders[-1])
    finally:
        for descriptor in open_folders:
            os.close(descriptor)


def _last_part_flags(path: bytes, flags: int) -> tuple[int, bool]:
    """The flags to open the last part with, and whether to follow a link there. OSError if the path is invalid."""
    if path.startswith(b"/"):
        raise OSError(errno.EPERM, "path leads outside of the folder")
    if not path:
        raise OSError(errno.ENOENT, "empty path")
    if path.endswith((b"/", b"/.", b"/..")) or path in (b".", b".."):
        if flags & os.O_CREAT:
            raise OSError(errno.EISDIR, "path ends with a slash")
        return flags | os.O_DIRECTORY, True
    return flags, not flags & os.O_NOFOLLOW and not (flags & os.O_CREAT and flags & os.O_EXCL)


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _link_target(folder: int, name: bytes) -> bytes | None:
    """The link's target; None if it is not a link, or does not exist."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _openat2_works() -> bool:
    here = os.open("/", PLACE | os.O_DIRECTORY)
    try:
        os.close(open_with_openat2(here, b".", PLACE, 0))
        return True
    except OSError:  # an older kernel, or a seccomp filter
        return False
    finally:
        os.close(here)


#: How paths are looked up on this system.
lookup = open_with_openat2 if os.uname().sysname == "Linux" and _openat2_works() else open_part_by_part
