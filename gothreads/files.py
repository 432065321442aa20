"""Files that several processes may write at once: the folder of caches, and writes that are whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gothreads.errors import GothreadsError

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]


def cache_folder() -> Path:
    """Where gothreads keeps what it can make again: GOTHREADS_CACHE, else XDG_CACHE_HOME or ~/.cache.

    Made on first use, for this user only: compiled modules are machine code, trusted when they are loaded.
    """
    named = os.environ.get("GOTHREADS_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gothreads"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GothreadsError(f"cannot make the cache folder {folder}: {error.strerror}. Set GOTHREADS_CACHE to a folder "
                             "that can be written") from error
    return folder.absolute()


def reason(error: OSError) -> str:
    """Why the system refused something, and how to mend it where that is known."""
    if error.errno != errno.EMFILE:
        return error.strerror or str(error)
    import resource  # where there are limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = f" (ulimit -n; up to {hard:,} here)" if soft != hard else ""
    return f"this process has all the file descriptors open that it may have, {soft:,}. Close some, or raise the limit{more}"


def write_atomically(path: Path, content: bytes | bytearray) -> None:
    """Write the file so that whoever reads it sees all of it or the one before.

    GothreadsError, with nothing left behind, when it cannot be written (a full disk, no permission).
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise GothreadsError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: one process, and one thread, at a time."""
    with path.open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
