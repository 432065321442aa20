"""Atomic file writes, and the cache folder, which several processes may write to at once.

The cache's contents are executed: machine code, programs, Go's own files. So nobody else may write there
(`cache_folder`), and a file is used only if it is exactly as written (`kept`): a power cut may leave pages of zeros,
and damaged machine code kills the process. The checksum is against damage, not against attackers: CRC-32 takes 3 ms
for 10 MB on any machine, SHA-256 takes 6 to 25.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import pwd
import resource
import secrets
import stat
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from gothreads.errors import GothreadsError

log = logging.getLogger("gothreads")

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CHUNK = 1 << 20
_SETTLED, _HOUR = 60.0, 3600.0


def cache_folder() -> Path:
    """The folder for everything that gothreads can make again: GOTHREADS_CACHE, else XDG_CACHE_HOME or ~/.cache.

    Created on first use, for this user only. GothreadsError if it belongs to another user than root, or others can
    write to it.
    """
    named = os.environ.get("GOTHREADS_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gothreads"
    try:
        folder = folder.resolve()  # use exactly what is checked, even if a link changes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links, up to Python 3.12
        why = reason(error) if isinstance(error, OSError) else error
        raise GothreadsError(f"cannot make the cache folder {folder}: {why}. Set GOTHREADS_CACHE to a folder that can "
                             "be written") from error
    if about.st_uid not in (0, os.geteuid()):
        raise GothreadsError(f"the cache folder {folder} belongs to {_user(about.st_uid)}, and this process runs as "
                             f"{_user(os.geteuid())}. The cache contains code that is run, so it must belong to the "
                             "same user. Set GOTHREADS_CACHE to a folder of this user's")
    if about.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(about.st_mode)
        raise GothreadsError(f"other users can write to the cache folder {folder} (its mode is {mode:o}). It contains "
                             f"code that is run, so only its owner may: chmod go-w {folder}; or set GOTHREADS_CACHE to "
                             "another folder")
    return folder


def cache_key(*parts: str | bytes) -> str:
    """The name in the cache of what is made of these parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:32]


#: How to fix what the system reports about a disk.
_REMEDIES = {
    errno.ENOSPC: "Free some space, or use another disk",
    errno.EDQUOT: "Delete files of this user, or use another disk",
    errno.EROFS: "Use a folder on another file system",
}


def version_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Changes when the file does. OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def reason(error: OSError) -> str:
    """Why the system refused something, and how to fix it if that is known."""
    message = error.strerror or str(error)
    match error.errno:
        case errno.EMFILE:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            more = f" (ulimit -n; up to {hard:,} here)" if soft != hard else ""
            return f"this process has {soft:,} open file descriptors, its limit. Close some, or raise the limit{more}"
        case errno.EACCES | errno.EPERM:
            return f"{message} for user {_user(os.geteuid())}"
        case number if number in _REMEDIES:
            return f"{message}. {_REMEDIES[number]}"
    return message


@contextlib.contextmanager
def reported(action: str, kind: type[GothreadsError] = GothreadsError) -> Iterator[None]:
    """Context: an OSError becomes an error of that kind: "cannot ACTION: REASON"."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot {action}: {reason(error)}") from error


def where(name: str) -> str:
    """Where a relative path was looked for, to follow an error about it: " in FOLDER"; "" for another path."""
    with contextlib.suppress(OSError):  # the working folder was deleted
        return "" if os.path.isabs(name) else f" in {os.getcwd()}"
    return ""


def make_folder(path: Path, kind: type[GothreadsError] = GothreadsError) -> Path:
    """Make a folder, and those above it, unless they exist. An error of that kind if that is not possible."""
    with reported(f"make the folder {path}", kind):
        path.mkdir(parents=True, exist_ok=True)
    return path


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def write_atomically(path: Path, content: bytes | bytearray, mode: int = 0o666, *, age: float = 0.0) -> None:
    """Write the file so that readers see either all of it or the previous one, even after a power cut.

    mode: permissions, subject to the umask.
    age: how many seconds ago it was modified, as its modification time has it.

    GothreadsError if it cannot be written (full disk, no permission); nothing is left behind then.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    with reported(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                _note_use(file.fileno(), age)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut. Not all file systems support this, and some refuse."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# Files in the cache. Each has a checksum file beside it, which is written last: without it the file does not count.

def keep(path: Path, content: bytes | bytearray) -> None:
    """Write a file in the cache. Raises GothreadsError as write_atomically does."""
    _write_in_cache(path, content)
    _write_in_cache(checksum_of(path), _checksum_line(len(content), zlib.crc32(content)))


def _write_in_cache(path: Path, content: bytes | bytearray, *, age: float = 0.0) -> None:
    try:
        write_atomically(path, content, 0o600, age=age)
    except GothreadsError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.EACCES, errno.EPERM):
            raise GothreadsError(f"{error}. Set GOTHREADS_CACHE to a folder that can be written") from error.__cause__
        raise


def seal(path: Path) -> None:
    """Adopt a file in the cache that another program has written or left unchanged."""
    with reported(f"keep {path}"), path.open("rb") as file:
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~_OTHERS_WRITE)
        checksum = _checksum(file)
        _note_use(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            if checksum_of(path).read_bytes() == checksum:
                return
        os.fsync(file.fileno())
    _write_in_cache(checksum_of(path), checksum)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[BinaryIO | None]:
    """A cached file, open, if it is undamaged and owned by this user or root; else None. Damage is logged."""
    with contextlib.ExitStack() as owned:
        yield _open_kept(path, owned)


def is_kept(path: Path) -> bool:
    with kept(path) as file:
        return file is not None


def keep_exactly(path: Path, content: bytes) -> None:
    """Write a file for Go, unless it is there already and intact.

    Go does not index a package with a file that was modified in the last two seconds, or since it was indexed; and Go
    1.25 does not find such a package if only an overlay has it. So the modification time is a minute ago, for an hour.
    """
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            if time.time() - path.stat().st_mtime > _HOUR:
                _note_use(path, _SETTLED)
            return
        _warn_damaged(path)
    _write_in_cache(path, content, age=_SETTLED)


def _open_kept(path: Path, owned: contextlib.ExitStack) -> BinaryIO | None:
    try:
        expected = checksum_of(path).read_bytes()
        file = owned.enter_context(path.open("rb"))
        about = os.fstat(file.fileno())
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & _OTHERS_WRITE:
            log.warning("%s in the cache belongs to another user, or others can write to it: it is made again",
                        path.name)
            return None
        if _checksum(file) == expected:
            _note_use(file.fileno())
            return file
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s in the cache cannot be read: %s", path.name, reason(error))
        return None
    _warn_damaged(path)
    with contextlib.suppress(OSError):  # told once: who makes it looks again
        path.unlink()
    return None


def _note_use(file: int | Path, age: float = 0.0) -> None:
    """Set the modification time to `age` seconds ago: it says when a file in the cache was last used (cache.py)."""
    with contextlib.suppress(OSError):  # the cache may be read-only, or root's
        os.utime(file, (time.time() - age,) * 2)


def _warn_damaged(path: Path) -> None:
    log.warning("%s in the cache is damaged, and is made again", path.name)


def checksum_of(path: Path) -> Path:
    """The file with the checksum of a file in the cache."""
    return path.with_name(path.name + ".crc")


def _checksum(file: BinaryIO) -> bytes:
    """The checksum line for the rest of a file."""
    size = checksum = 0
    buffer = memoryview(bytearray(_CHUNK))
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        checksum = zlib.crc32(buffer[:count], checksum)
        size += count
    return _checksum_line(size, checksum)


def _checksum_line(size: int, checksum: int) -> bytes:
    return f"{size} {checksum:08x}\n".encode()


@contextlib.contextmanager
def making(path: Path, waiting: AbstractContextManager[object] | None = None) -> Iterator[None]:
    """Context of whoever makes a file in the cache that it has not found there: one thread at a time makes it, of all
    processes. waiting: entered only while another one does.

    Invariant: a file is made only by a thread that holds its lock and has not found it since it got that.

        first   looks: none │ locks │ looks: none │ makes it, keeps it │ unlocks
        second         looks: none │ waits ·····························│ locks │ looks: finds it

    So look before, as most find it, and look again in here. The lock is a byte of the folder's file "lock", which the
    name chooses: no file is left behind for each, and two names that share a byte only wait for each other. The lock
    belongs to the open file (OFD), so threads exclude each other, too; and it ends with the process. If there can be
    none, as in a folder that is read-only, several may make the file.
    """
    place = zlib.crc32(path.name.encode())

    def flock(kind: int) -> bytes:  # struct flock of Linux, on 64 bits
        return struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0)
    with contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context((path.parent / "lock").open("ab"))
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, flock(fcntl.F_WRLCK))
            except BlockingIOError:
                with waiting or contextlib.nullcontext():
                    fcntl.fcntl(file, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK))
        except OSError as error:
            log.info("%s is made without a lock: %s", path.name, reason(error))
        else:  # a child of a fork may have the open file, too
            opened.callback(fcntl.fcntl, file, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK))
        yield


@contextlib.contextmanager
def locked(path: Path, waiting: AbstractContextManager[object] | None = None) -> Iterator[None]:
    """Hold a lock file, against other processes and threads. GothreadsError if it cannot be locked.

    waiting: entered only while another one has it, to say so.
    """
    with contextlib.ExitStack() as opened:
        with reported(f"lock {path}"):
            file = opened.enter_context(path.open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with waiting or contextlib.nullcontext():
                    fcntl.flock(file, fcntl.LOCK_EX)
        yield
