"""Fifteen hundred clients of a net/http server at once: each is answered, again and again."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.command_line import process
from tests.support.modules import built, outside_timeout
from tests.support.sockets_program import connected, free_port
from tests.support.waiting import PATIENCE, wait_until

CLIENTS = 1500
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
ANSWER = b"\r\n\r\nHello from Go.\n"


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them, for this process and for the server's, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CLIENTS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this needs {wanted} descriptors, and the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def clients(address: tuple[str, int], seconds: float) -> list[int]:
    """How often each client was answered in at least so many seconds. A client asks again when it is answered."""
    answers = [0] * CLIENTS
    with contextlib.ExitStack() as kept, selectors.DefaultSelector() as selector:
        made = [kept.enter_context(socket.socket()) for _ in range(CLIENTS)]
        for number, client in enumerate(made):
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(address)
            selector.register(client, selectors.EVENT_WRITE, (number, bytearray()))
        end, last = time.monotonic() + seconds, time.monotonic() + PATIENCE
        while time.monotonic() < end or 0 in answers:
            assert time.monotonic() < last, f"{answers.count(0)} clients were not answered"
            for key, events in selector.select(1):
                number, received = key.data
                client = made[number]
                if events & selectors.EVENT_READ:
                    data = client.recv(4096)
                    assert data, f"the server has closed a connection after {answers[number]} answers"
                    received += data
                    if not received.endswith(ANSWER):
                        continue
                    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
                    received.clear()
                    answers[number] += 1
                else:
                    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                    selector.modify(client, selectors.EVENT_READ, key.data)
                client.sendall(REQUEST)
    return answers


@pytest.mark.long
@pytest.mark.usefixtures("descriptors")
def test_fifteen_hundred_clients_are_all_answered() -> None:
    address = "127.0.0.1", free_port()
    with outside_timeout():
        module = built("httpd")
    with process("run", "--listen", "{}:{}".format(*address), module, "-addr", "{}:{}".format(*address)) as running:
        try:
            wait_until(lambda: running.poll() is not None or connects(address))
            answers = clients(address, seconds=4)  # what `run` itself does two seconds after the start is in these
            assert min(answers) > 0
            assert running.poll() is None
        finally:
            running.terminate()
            running.communicate(timeout=PATIENCE)


def connects(address: tuple[str, int]) -> bool:
    try:
        connected("{}:{}".format(*address)).close()
    except ConnectionRefusedError:
        return False
    return True
