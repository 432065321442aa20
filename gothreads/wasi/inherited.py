"""Listeners that this process was started with, as systemd does it (sd_listen_fds)."""

from __future__ import annotations

import os
import socket

from gothreads.errors import GothreadsError
from gothreads.files import reason
from gothreads.text import cut, whole_number

#: The first descriptor that systemd hands over.
FIRST = 3
#: The most that it may.
_MOST = 1024


def of_systemd() -> tuple[range, str]:
    """The descriptors of the sockets that systemd has opened for this process, and their names (LISTEN_FDNAMES).

    Programs that this process starts see nothing of them. GothreadsError: they are not there.
    """
    process, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if process != str(os.getpid()):  # they are for somebody else
        return range(0), ""
    number = whole_number(count, _MOST)
    if number is None:
        raise GothreadsError(f"LISTEN_FDS is {cut(count)}; expected how many sockets systemd has handed over, at most "
                             f"{_MOST:,}")
    found = range(FIRST, FIRST + number)
    for descriptor in found:
        try:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 (takes no keywords)
        except OSError as error:
            raise GothreadsError(f"LISTEN_FDS is {number}, but there is no descriptor {descriptor}: {reason(error)}"
                                 ) from None
    return found, names


def listener(descriptor: int, named: str) -> socket.socket:
    """A duplicate of a socket that listens. GothreadsError: it does not; `named`: how the user has named it."""
    try:
        own = os.dup(descriptor)
    except (OSError, OverflowError) as error:
        raise GothreadsError(f"{named}: {reason(error) if isinstance(error, OSError) else 'no such descriptor'}; "
                             "expected a socket that listens") from None
    try:
        made = socket.socket(fileno=own)
    except OSError as error:
        os.close(own)
        raise GothreadsError(f"{named}: {reason(error)}; expected a socket that listens") from None
    if made.type != socket.SOCK_STREAM or not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        made.close()
        raise GothreadsError(f"{named}: this socket does not listen for connections")
    return made


def path_of(listener: socket.socket) -> str:
    """The path of a Unix socket, as Go writes it; empty for other sockets."""
    if listener.family != socket.AF_UNIX:
        return ""
    name: str | bytes = listener.getsockname()  # bytes: it has no file
    return f"@{name[1:].decode(errors='surrogateescape')}" if isinstance(name, bytes) else name
