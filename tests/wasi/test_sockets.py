"""Sockets of a Go program through gothreads/guest (tests/modules/sockets), with Go and Python peers.

Unless a test is about time, it waits for events, and its timeouts only bound failures.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.support.sockets_program import (
    LOOPBACKS,
    Go,
    GoError,
    address_of,
    blocked,
    connected,
    module,
    nobody_answers,
    opened,
    received,
    reset,
)
from tests.support.waiting import PATIENCE, together, under_load, wait_until


@pytest.fixture(scope="module")
def shared() -> Iterator[Go]:
    with opened("*:*") as go:
        yield go


@pytest.fixture
def go(shared: Go) -> Iterator[Go]:
    """One app for all tests that do not end it. A test must end what it has started."""
    yield shared
    assert shared.app.state is gothreads.State.RUNNING


@pytest.mark.parametrize("host", LOOPBACKS)
def test_both_ends_of_a_tcp_connection_know_their_addresses(go: Go, host: str) -> None:
    listener, address = go.listen("tcp", f"{host}:0")
    assert go("addr", listener) == f"*net.TCPAddr tcp {address}"
    dialling = go.begin("dial", "tcp", address)
    accepted = go("accept", listener)
    mine, peers = go("addrs", go.result(dialling))
    assert peers == f"*net.TCPAddr tcp {address}"
    assert go("addrs", accepted) == [peers, mine]
    with connected(address) as client:
        name = client.getsockname()
        assert go("addrs", go("accept", listener)) == [peers, f"*net.TCPAddr tcp {host}:{name[1]}"]
    go("stop", listener)


def test_the_address_of_a_peer_that_has_gone_before_it_was_accepted_is_one(go: Go) -> None:
    listener, address = go.listen()
    client = connected(address)
    name = address_of(client)
    reset(client)
    assert go("addrs", go("accept", listener)) == [f"*net.TCPAddr tcp {address}", f"*net.TCPAddr tcp {name}"]


def test_unix_sockets_echo_and_their_files_come_and_go(tmp_path: Path) -> None:
    path, taken, stale = tmp_path / "s", tmp_path / "taken", tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    with socket.socket(socket.AF_UNIX) as server, opened(*(f"unix:{p}"
                                                           for p in (path, taken, stale, tmp_path / "file"))) as go:
        server.bind(str(taken))
        server.listen()
        (tmp_path / "file").write_text("kept")
        go.fails("EADDRINUSE", "listen", "unix", str(taken))
        go.fails("EADDRINUSE", "listen", "unix", str(tmp_path / "file"))
        for at in (path, stale):
            listener, address = go.listen("unix", str(at))
            assert (address, go("addr", listener)) == (str(at), f"*net.UnixAddr unix {at}")
            go.fails("EADDRINUSE", "listen", "unix", address)
            go("serve", listener)
            go("transfer", "unix", address, 4, 500_000)
            dialled = go("dial", "unix", address)
            assert go("addrs", dialled)[1] == f"*net.UnixAddr unix {at}"
            with connected(address) as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                assert client.makefile("rb").read() == b"hello"
        dialled = go("dial", "unix", str(taken))
        server.accept()[0].close()  # the probe for a listening process
        with server.accept()[0] as accepted:
            go("write", dialled, "from Go")
            assert received(accepted, 7) == b"from Go"
    assert not path.exists()
    assert not stale.exists()
    assert (tmp_path / "file").read_text() == "kept"


def test_the_file_of_a_unix_socket_goes_with_its_listener_and_no_other_file_later(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        with opened(f"unix:{path}") as go:
            go("stop", go.listen("unix", str(path))[0])
            gone_with_listener = not path.exists()
            path.unlink(missing_ok=True)
            server.bind(str(path))  # the path now belongs to another program
            server.listen()
        assert (gone_with_listener, path.exists()) == (True, True)


def test_a_half_closed_connection_carries_the_other_half(go: Go) -> None:
    listener, address = go.listen()
    with connected(address) as client:
        conn = go("accept", listener)
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert go("read", conn, 100) == "question"
        go.fails("EOF", "read", conn, 100)
        go("write", conn, "answer")
        go("close write", conn)
        go.fails("EPIPE", "write", conn, "more")
        assert client.makefile("rb").read() == b"answer"
        go("close", conn)


def test_a_reset_is_an_error_to_those_who_read_and_write(go: Go) -> None:
    conn, peer = go.pair()
    reading = go.begin("read", conn, 1)
    blocked(1, go)
    reset(peer)
    with pytest.raises(GoError, match="ECONNRESET"):
        go.result(reading, 2)
    go.fails("EPIPE|ECONNRESET", "write", conn, "x")
    go("close", conn)


def test_32_mebibytes_go_each_way_at_once_over_many_connections(go: Go) -> None:
    listener, address = go.listen()
    go("serve", listener)
    data = os.urandom(1 << 20) * 4

    def echo() -> None:
        with connected(address) as client:
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            assert received(client, len(data)) == data
            sender.join()
    together(*[echo] * 4, lambda: go("transfer", "tcp", address, 16, 1 << 20))
    go("stop", listener)


def test_32_mebibytes_go_one_way(go: Go) -> None:
    size = 32 << 20
    conn, peer = go.pair()
    sending = go.begin("send", conn, size)
    total = check = 0
    while part := peer.recv(1 << 20):
        total, check = total + len(part), zlib.crc32(part, check)
    assert (total, check) == (size, go.result(sending))
    draining = go.begin("drain", conn)
    data = os.urandom(1 << 20)
    for _ in range(32):
        peer.sendall(data)
    peer.close()
    assert go.result(draining) == [size, zlib.crc32(data * 32)]


def test_a_write_to_a_peer_that_does_not_read_waits_until_its_deadline(go: Go) -> None:
    conn, peer = go.pair()
    begin = time.monotonic()
    go("write deadline", conn, 300)
    go.fails("i/o timeout.*ErrDeadlineExceeded.*Timeout", "fill", conn, 64 << 20)
    assert 0.29 < time.monotonic() - begin < under_load(2)
    go.fails("ErrDeadlineExceeded", "write", conn, "x")
    go("write deadline", conn, 0)
    writing = go.begin("fill", conn, 1 << 20)
    blocked(1, go)
    draining = threading.Thread(target=lambda: peer.makefile("rb").read())
    draining.start()
    assert go.result(writing) == 1 << 20
    go("close", conn)
    draining.join()


@pytest.mark.parametrize("ms", [-1000, 30])
def test_a_deadline_that_is_set_meanwhile_wakes_a_read(go: Go, ms: int) -> None:
    conn, peer = go.pair()
    for _ in range(5):
        reading = go.begin("read", conn, 1)
        blocked(1, go)
        go("read deadline", conn, ms)
        with pytest.raises(GoError, match="ErrDeadlineExceeded"):
            go.result(reading, 2)
        go("deadline", conn, 0)
        peer.sendall(b"x")
        assert go("read", conn, 10) == "x"
    go("close", conn)


def test_close_wakes_those_who_wait_with_err_closed(go: Go) -> None:
    listener, address = go.listen()
    dialled, peer = go.pair()
    client = connected(address)
    accepted = go("accept", listener)
    waiting = [go.begin("accept", listener),
               *(go.begin(op, conn, 64 << 20) for conn in (dialled, accepted) for op in ("read", "fill"))]
    blocked(5, go)
    for op, of in (("stop", listener), ("close", dialled), ("close", accepted)):
        go(op, of)
    for one in waiting:
        with pytest.raises(GoError, match="ErrClosed"):
            go.result(one, 2)
    go.fails("ErrClosed", "close", dialled)
    with pytest.raises(ConnectionRefusedError):
        connected(address)
    reset(client)
    reset(peer)


def test_dialling_nobody_fails_with_the_reason(go: Go, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address_of(server)
    go.fails("refused.*ECONNREFUSED", "dial", "tcp", address)
    for name in ("nowhere.invalid", "a" * 64 + ".invalid"):
        go.fails(f"no such host.*IsNotFound {name}", "dial", "tcp", f"{name}:80", within=20)
    go.fails("invalid port", "dial", "tcp", "127.0.0.1:65536")
    with opened(f"unix:{tmp_path}/none") as alone:
        alone.fails("ENOENT", "dial", "unix", f"{tmp_path}/none")
    too_long = f"{tmp_path}/{'x' * 120}"
    with opened(f"unix:{too_long}", "*:*") as alone:
        alone.fails("EINVAL", "listen", "unix", too_long)  # as natively
        for op in ("listen", "dial"):
            alone.fails("missing port", op, "tcp", "x" * 5000)
    with pytest.raises(gothreads.GothreadsError, match=f"cannot listen on unix:{too_long} \\(--listen\\): .*path too long"):
        gothreads.open(module(), listen=[f"unix:{too_long}"])


def test_a_dial_that_is_not_answered_ends_with_its_context(go: Go) -> None:
    before = go("goroutines")
    with nobody_answers() as address:
        # As natively, a deadline is the context's or the connection's, which come at the same time.
        for op, ms, error in (("dial within", 200, "(Err)?DeadlineExceeded"),
                              ("dial within", 0, "(Err)?DeadlineExceeded"),
                              ("dial and cancel", 200, "Canceled"),
                              ("dial and cancel", 0, "Canceled")):
            begin = time.monotonic()
            go.fails(rf"\b{error}", op, "tcp", address, ms)
            assert ms / 1000 - 0.01 < time.monotonic() - begin < ms / 1000 + 0.5
    wait_until(lambda: go("goroutines") <= before)


def test_a_context_that_ends_after_its_dial_leaves_the_connection_alone(go: Go) -> None:
    listener, address = go.listen()
    go("serve", listener)
    dialled = go("dial within", "tcp", address, 200)
    time.sleep(0.25)
    assert (go("write", dialled, "late"), go("read", dialled, 10)) == (4, "late")
    go("close", dialled)
    go("stop", listener)


def test_a_name_that_takes_long_to_look_up_does_not_outlast_the_context(go: Go,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def slow(host: str, *args: Any, **options: Any) -> Any:
        if not options:
            asked.set()
            answer.wait(PATIENCE)
        return real(host, *args, **options)
    monkeypatch.setattr(socket, "getaddrinfo", slow)  # simulates a slow name server
    try:
        go.fails("DeadlineExceeded", "dial within", "tcp", "somewhere.invalid:1", 200)
        assert asked.is_set()
    finally:
        answer.set()
