"""The sockets that a server listens on: of an address, a Unix socket, or one that somebody else, as systemd, opened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gothreads.errors import GothreadsError
from gothreads.files import reason
from gothreads.wasi import inherited

#: How many connections may wait to be accepted.
BACKLOG = 2048
#: How long to wait for other servers that begin or end in the folder of a Unix socket, in seconds.
_LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Address:
    """Where to listen. port 0: any free port. option: how to choose another."""

    host: str
    port: int
    host_option: str = "--host"
    port_option: str = "--port"

    @contextlib.contextmanager
    def listen(self) -> Iterator[socket.socket]:
        with _listen(self) as listener:
            yield listener


@dataclass(frozen=True)
class UnixSocket:
    """Listen on a Unix socket. Its permissions are the umask's; it is removed at the end."""

    path: str

    @contextlib.contextmanager
    def listen(self) -> Iterator[socket.socket]:
        with _one_at_a_time(self.path):
            listener = _listen_at(self.path)
            mine = os.stat(self.path)
        try:
            with listener:
                yield listener
        finally:
            with contextlib.suppress(OSError, GothreadsError), _one_at_a_time(self.path):
                if os.path.samestat(mine, os.stat(self.path)):  # unless another server has taken its place
                    os.unlink(self.path)


@dataclass(frozen=True)
class Inherited:
    """Listen on a socket that this process was started with."""

    descriptor: int
    option: str = "--fd"

    @contextlib.contextmanager
    def listen(self) -> Iterator[socket.socket]:
        with inherited.listener(self.descriptor, f"{self.option} {self.descriptor}") as listener:
            yield listener


Place = Address | UnixSocket | Inherited


def of_systemd() -> Inherited | None:
    """The socket that systemd has opened for this process (LISTEN_FDS)."""
    found, _ = inherited.of_systemd()
    if len(found) > 1:
        raise GothreadsError(f"systemd has handed over {len(found)} sockets (LISTEN_FDS); one is expected")
    return Inherited(found[0], "LISTEN_FDS, descriptor") if found else None


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Where clients find it."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def host_of(listener: socket.socket) -> str:
    """The address that it is bound to. A Unix socket counts as local."""
    return "localhost" if listener.family == socket.AF_UNIX else str(listener.getsockname()[0])


def _listen(at: Address) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GothreadsError(f"cannot listen on {at.host}:{at.port}: {reason(error)}. Name an address of this machine "
                             f"with {at.host_option}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        hints = {errno.EADDRINUSE: f"Choose another with {at.port_option} (0: any)",
                 errno.EACCES: f"Choose 1024 or higher with {at.port_option}",
                 errno.EADDRNOTAVAIL: f"Name an address of this machine with {at.host_option}"}
        hint = hints.get(error.errno or 0)
        raise GothreadsError(f"cannot listen on {at.host}:{at.port}: {reason(error)}"
                             f"{f'. {hint}' if hint else ''}") from None
    return listener


@contextlib.contextmanager
def _one_at_a_time(path: str) -> Iterator[None]:
    """Lock the socket's folder. Otherwise, of two servers that find a stale socket, one would remove the new one of the
    other, or one that is bound and does not listen yet.
    """
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise GothreadsError(f"cannot listen on --uds {path}: {reason(error)}") from None
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise GothreadsError(f"cannot listen on --uds {path}: another program has locked its folder"
                                         ) from None
                time.sleep(0.01)  # polling: flock has no time limit
        yield
    finally:
        os.close(folder)


def _listen_at(path: str) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise GothreadsError(f"cannot listen on --uds {path}: {reason(error)}") from None
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens any more, such as that of a server that was killed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise GothreadsError(f"cannot listen on --uds {path}: there is something else of that name")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            client.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(path)
    except OSError as error:
        raise GothreadsError(f"cannot listen on --uds {path}: {reason(error)}") from None
    else:
        raise GothreadsError(f"cannot listen on --uds {path}: another server listens there")
