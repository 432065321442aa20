"""Serves an app, for raw socket connections; and what tests of WebSockets share."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import gothreads
from gothreads.output.terminal import Terminal
from gothreads.serve import server
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.guard import Hosts
from gothreads.serve.listeners import Address
from gothreads.serve.serving import Serving
from tests.support.waiting import PATIENCE, wait_until

#: How long a client that leaves unread messages behind waits for the server's answer, which comes after them: seconds.
CLOSE_SECONDS = 1

LOCAL = Hosts.of("127.0.0.1", "127.0.0.1")


@contextlib.contextmanager
def serving(app: gothreads.App) -> Iterator[tuple[str, int]]:
    """Run a real server in this process; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        apps = Apps([Hosted(lambda: app, {})], drain=0)
        web = apps.web(LOCAL, has_metrics=True)
        made = server._Server(apps, web, Terminal(), Serving(Address("127.0.0.1", 0)))
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: made.started)
        try:
            yield listener.getsockname()
        finally:
            made.should_exit = True
            thread.join(PATIENCE)


def until_closed(client: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    client.settimeout(30)
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            said += part
    return said
