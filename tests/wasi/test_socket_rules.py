"""Socket rules, the cost of waiting sockets, and their end, in both models (tests/modules/sockets)."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

import gothreads
from tests.support.command_line import finished
from tests.support.modules import built, written
from tests.support.sockets_program import (
    LOOPBACKS,
    Go,
    address_of,
    blocked,
    connected,
    module,
    nobody_answers,
    opened,
    received,
    reset,
)
from tests.support.waiting import together, under_load, wait_until

PROCESS = psutil.Process()


@pytest.fixture
def full() -> Iterator[str]:
    with nobody_answers() as address:
        yield address


def gone(own: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    try:
        return own.recv(1) == b""
    except ConnectionResetError:
        return True


# Rules.

def test_nothing_is_allowed_unless_it_was_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, opened() as go:
        for network, address in (("tcp", address_of(server)), ("tcp", "nowhere.invalid:80"), ("unix", f"{tmp_path}/s")):
            for op in ("dial", "listen"):
                go.fails(r"\(to allow it: --(listen|allow-net) \S+\): not allowed by the host", op, network, address)
        go("gc")
        go.fails("gothreads run --listen 127.0.0.1:8080", "first listener")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not any(tmp_path.iterdir())


def test_a_rule_allows_what_it_names(tmp_path: Path) -> None:
    refused = r"\(to allow it: --(listen|allow-net) \S+\): not allowed by the host"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port, otherwise = server.getsockname()[1], other.getsockname()[1]
        for rule, yes, no in (
                (f"127.0.0.1:{port}", [f"127.0.0.1:{port}", f"LOCALHOST:{port}"],
                 [f"127.0.0.1:{otherwise}", f"127.0.0.2:{port}"]),
                (f"LocalHost:{port}", [f"localhost:{port}", f"Localhost:{port}", f"127.0.0.1:{port}"],
                 [f"localhost:{otherwise}", f"127.0.0.2:{port}"]),
                (f"*:{port}", [f"127.0.0.1:{port}", f"localhost:{port}"], [f"127.0.0.1:{otherwise}"]),
                ("127.0.0.1:*", [f"127.0.0.1:{port}", f"127.0.0.1:{otherwise}"], [f"127.0.0.2:{port}"]),
                ("*:*", [f"127.0.0.1:{port}", f"localhost:{otherwise}"], []),
                ("[::1]:*", [], [f"127.0.0.1:{port}"])):
            with opened(rule) as go:
                for address in yes:
                    go("close", go("dial", "tcp4", address))
                for address in no:
                    go.fails(refused, "dial", "tcp4", address)
                go.fails(refused, "dial", "unix", f"{tmp_path}/s")
                go.fails(refused, "listen", "unix", f"{tmp_path}/s")
    with opened(f"unix:{tmp_path}/s") as go:
        listener, address = go.listen("unix", f"{tmp_path}/./s")
        go("serve", listener)
        go("transfer", "unix", address, 1, 1000)
        go.fails(refused, "dial", "tcp", "127.0.0.1:80")
        for name in ("t", "s/../t", "../s"):
            go.fails(refused, "listen", "unix", f"{tmp_path}/{name}")


def test_only_a_rule_that_names_the_address_lets_others_connect() -> None:
    with opened("*:*") as go:
        for network, address in (("tcp", ":0"), ("tcp4", ":0"), ("tcp", "0.0.0.0:0"), ("tcp4", "0.0.0.0:0")):
            assert go.listen(network, address)[1].startswith("127.0.0.1:")
        if len(LOOPBACKS) > 1:
            for address in (":0", "[::]:0"):
                assert go.listen("tcp6", address)[1].startswith("[::1]:")
    with opened("0.0.0.0:*") as go:
        for address in (":0", "0.0.0.0:0"):
            listener, at = go.listen("tcp", address)
            assert at.startswith("0.0.0.0:")
            go("serve", listener)
            go.fails("--allow-net", "dial", "tcp", at.replace("0.0.0.0", "127.0.0.1"))
            with connected(at.replace("0.0.0.0", "127.0.0.1")) as client:
                client.sendall(b"x")
                assert received(client, 1) == b"x"
        private = go.listen("tcp", "127.0.0.1:0")[1]  # no rule allows it, so only the module itself can connect
        go("close", go("dial", "tcp", private))
        with pytest.raises(ConnectionRefusedError):
            connected(private)


def test_a_rule_without_a_host_is_refused() -> None:
    with pytest.raises(gothreads.MisuseError, match=r"':80' is not an address: write HOST:PORT"):
        gothreads.open(module(), allow_net=[":80"])


@pytest.mark.parametrize("text",
                         ["", "localhost", "localhost:", ":http", "localhost:http", "localhost:65536", "localhost:-1",
                          "::1:80", "unix:", "[::1]",
                                  "localhost:" + "9" * 5000], ids=range(11))
def test_what_is_not_an_address_is_refused_with_what_to_write(text: str) -> None:
    for name, options in (("allow_net", {"allow_net": [text]}), ("listen", {"listen": [text]})):
        with pytest.raises(gothreads.MisuseError,
                           match=r"HOST:PORT.*unix:PATH|a port is a number from 0 to 65535") as caught:
            gothreads.open(module(), **options)  # type: ignore[arg-type]
        assert repr(text)[:200] in str(caught.value), name
    with pytest.raises(gothreads.MisuseError, match=r"must be a list of addresses"):
        gothreads.open(module(), allow_net="*:*")


def test_two_listeners_are_handed_over_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(listen=["127.0.0.1:0", f"unix:{tmp_path}/s", "localhost:0"]) as go:
        with caplog.at_level(logging.INFO, "gothreads"):
            numbers = go("listeners")
        assert [record.getMessage() for record in caplog.records] == [f"listening on {one}" for one in go.app.listening]
        assert [go("addr", number).split()[2]
                for number in numbers] == [address.removeprefix("unix:") for address in go.app.listening]
        for number, address in zip(numbers, go.app.listening, strict=True):
            go("serve", number)
            with connected(address.removeprefix("unix:")) as client:
                client.sendall(address.encode())
                assert received(client, len(address)) == address.encode()
        taken = go.app.listening[0]
        with pytest.raises(gothreads.GothreadsError,
                           match=f"cannot listen on {taken} \\(--listen\\): Address already in use. Another process has it; choose "
                                 f"another port"):
            gothreads.open(module(), listen=[taken])
        with opened("127.0.0.1:*") as other:
            other.fails("EADDRINUSE", "listen", "tcp", taken)
    with pytest.raises(gothreads.GothreadsError, match=f"cannot listen on {taken}"):
        gothreads.open(module(), listen=[taken, taken])
    with opened(listen=[taken]) as go:  # the failed opens have left nothing
        assert go.app.listening == [taken]


# Waiting.

@pytest.mark.long
def test_a_thousand_idle_connections_cost_no_thread_and_no_time() -> None:
    before_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before_limit[0]), max(4096, before_limit[1])))
    with contextlib.ExitStack() as clients, opened("127.0.0.1:*") as go:
        clients.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before_limit)
        listener, address = go.listen()
        go("serve", listener)

        def ask(client: socket.socket, n: int) -> None:
            client.sendall(b"%06d" % n)
            assert received(client, 6) == b"%06d" % n
        open_clients = [clients.enter_context(connected(address)) for _ in range(10)]
        for client in open_clients:
            ask(client, 0)
        time.sleep(0.2)
        threads = PROCESS.num_threads()
        open_clients += [clients.enter_context(connected(address)) for _ in range(990)]
        for n, client in enumerate(open_clients):
            ask(client, n)
        assert PROCESS.num_threads() <= threads + 4  # Go may start a few for its other work
        begin, cpu = time.monotonic(), time.process_time()
        time.sleep(3)
        used = (time.process_time() - cpu) / (time.monotonic() - begin)
        print(f"1000 idle connections: {used:.2%} of a core")
        assert used < 0.05
        late = go("tick", 20, 25)
        print(f"the latest of 25 timers was {late:.1f} ms late")
        assert late < under_load(100)
        for n, client in enumerate(reversed(open_clients)):
            ask(client, n)


def test_host_calls_that_block_hold_up_nobody(tmp_path: Path) -> None:
    names = [f"/m/fifo{n}" for n in range(16)]
    for name in names:
        os.mkfifo(tmp_path / name[3:])
    with opened("127.0.0.1:*", mounts={"/m": tmp_path}) as go:
        listener, address = go.listen()
        go("serve", listener)
        begin = time.monotonic()
        reading = go.begin("read files", *names)
        wait_until(lambda: (found := go.app.statistics().go) is not None and found.syscalls == len(names))
        while time.monotonic() - begin < 0.5:
            go("gc")
            go("transfer", "tcp", address, 2, 10_000)
        writers = [os.open(tmp_path / name[3:], os.O_WRONLY) for name in names]  # now the goroutines wait in reads
        while time.monotonic() - begin < 1:
            go("gc")
            assert not reading.done()
        for name, writer in zip(names, writers, strict=True):
            os.write(writer, name.encode())
            os.close(writer)
        go.result(reading)
        assert time.monotonic() - begin < under_load(3)


def test_two_thousand_short_connections_leave_nothing() -> None:
    with opened("127.0.0.1:*") as go:
        listener, address = go.listen()
        go("serve", listener)

        def use(n: int, times: int) -> None:
            for turn in range(times):
                with connected(address) as client:
                    client.sendall(b"hello")
                    assert received(client, 5) == b"hello"
                    if (n + turn) % 3 == 0:
                        reset(client)

        def dial() -> None:
            go("transfer", "tcp", address, 50, 100)
        together(*(functools.partial(use, n, 5) for n in range(16)), dial)
        wait_until(lambda: go("goroutines") < 10)
        open_files, threads = len(os.listdir("/proc/self/fd")), PROCESS.num_threads()
        together(*(functools.partial(use, n, 125) for n in range(16)), dial)
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= open_files)
        wait_until(lambda: go("goroutines") < 10)
        assert PROCESS.num_threads() <= threads + 4  # Go starts some when all of its threads are busy at once


# The end.

def waiting_in_all_ways(go: Go, full: str) -> tuple[list[Future[bytes]], list[socket.socket], str]:
    """Calls that wait, the peers that see the end of their connections, and the listener's address."""
    listener, address = go.listen()
    peers = [connected(address) for _ in range(2)]
    conns = [go("accept", listener) for _ in peers]
    waiting = [go.begin("accept", listener), go.begin("read", conns[0], 1), go.begin("fill", conns[1], 64 << 20),
               go.begin("dial", "tcp", full)]
    blocked(len(waiting), go)
    return waiting, peers, address


def check_end(waiting: list[Future[bytes]], peers: list[socket.socket], address: str,
              kind: type[BaseException]) -> None:
    for one in waiting:
        assert isinstance(one.exception(under_load(1)), kind)
    for peer in peers:
        with contextlib.suppress(ConnectionResetError), peer:
            while peer.recv(1 << 20):
                pass
    host, port = address.split(":")
    socket.create_server((host, int(port))).close()


def test_close_ends_what_waits_and_closes_all_sockets(full: str) -> None:
    with opened("127.0.0.1:*") as go:
        state = waiting_in_all_ways(go, full)
        begin = time.monotonic()
        go.app.close()
        assert time.monotonic() - begin < under_load(1)
        check_end(*state, gothreads.AppClosed)


def test_an_exit_ends_what_waits_and_closes_all_sockets(full: str) -> None:
    with opened("127.0.0.1:*") as go:
        state = waiting_in_all_ways(go, full)
        begin = time.monotonic()
        with pytest.raises(gothreads.GuestExit):
            go("exit", 3)
        assert go.app.wait(under_load(1)) == 3
        assert time.monotonic() - begin < under_load(1)
        check_end(*state, gothreads.GuestExit)  # even before close()


@pytest.mark.long
def test_thirty_such_ends_leave_nothing(full: str) -> None:
    def run(n: int) -> None:
        with opened("127.0.0.1:*") as go:
            state = waiting_in_all_ways(go, full)
            if n % 2:
                with pytest.raises(gothreads.GuestExit):
                    go("exit", 3)
        check_end(*state, gothreads.GuestExit if n % 2 else gothreads.AppClosed)

    for n in range(4):
        run(n)
    open_files, threads = len(os.listdir("/proc/self/fd")), PROCESS.num_threads()
    for n in range(30):
        run(n)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= open_files)
    wait_until(lambda: PROCESS.num_threads() <= threads)


# Stock Go.

@pytest.fixture(scope="module")
def stock() -> Path:
    return built("sockets", model="single", buildmode="exe")


@pytest.mark.long
def test_both_models_pass_the_programs_own_test(stock: Path, tmp_path: Path) -> None:
    for program in (stock, module()):
        path = tmp_path / program.stem
        code, out, err = finished("run", "--allow-net", "127.0.0.1:*", "--allow-net", f"unix:{path}", program, "self",
                                  "127.0.0.1:0", path)
        assert (code, out, err) == (0, "ok\n", "")
        assert not path.exists()


@pytest.mark.long
def test_the_single_model_serves_many_and_ends_at_once(stock: Path) -> None:
    app = gothreads.open(stock, args=["serve"], listen=["127.0.0.1:0"])
    (address,) = app.listening
    with app, contextlib.ExitStack() as clients:
        own = [clients.enter_context(connected(address)) for _ in range(50)]
        data = os.urandom(100_000)
        for client in (*own, *reversed(own)):
            client.sendall(data)
            assert received(client, len(data)) == data
        begin = time.monotonic()
        app.close()
        assert time.monotonic() - begin < under_load(1)
        assert all(gone(client) for client in own)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ECONNREFUSED))):
        connected(address)


@pytest.mark.long
def test_in_the_single_model_nothing_is_allowed_either(stock: Path) -> None:
    code, out, _ = finished("run", stock, "self", "127.0.0.1:0", "/nowhere")
    assert (code, "does not allow it (--allow-net)" in out) == (1, True)


@pytest.mark.long
def test_a_socket_that_failed_to_connect_does_not_listen_where_others_reach_it(tmp_path: Path) -> None:
    """System calls in an order that package net does not use: bound to any port, connected in vain, then listening."""
    folder = written(tmp_path / "program", """package main

import (
	"fmt"
	"syscall"
	"time"
)

func main() {
	fd, _ := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	fmt.Println(syscall.Bind(fd, &syscall.SockaddrInet4{}))
	err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1})
	for err == syscall.EINPROGRESS || err == syscall.EALREADY {
		time.Sleep(time.Millisecond)
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1})
	}
	fmt.Println(err)
	fmt.Println(syscall.Listen(fd, 1))
}
""")
    code, out, _ = finished("run", "--allow-net", "127.0.0.1:1", folder)
    assert code == 0
    assert out.splitlines() == ["<nil>", "Connection refused", "not allowed by the host"]


@pytest.mark.long
def test_a_program_may_listen_again_and_again_where_it_was_handed_a_listener(tmp_path: Path) -> None:
    folder = written(tmp_path / "program", """package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	for _, address := range [][2]string{{"tcp", os.Args[1]}, {"unix", os.Args[2]}} {
		for range 3 {
			l, err := net.Listen(address[0], address[1])
			fmt.Println(err)
			_, again := net.Listen(address[0], address[1])
			fmt.Println(again != nil)
			fmt.Println(l.Close())
		}
	}
	_, err := os.Stat(os.Args[2])
	fmt.Println(os.IsNotExist(err))
}
""")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    path = tmp_path / "s"
    code, out, err = finished("run", "--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}", "--no-mount-args", folder,
                              f":{port}", path)
    assert (code, out.splitlines()) == (0, ["<nil>", "true", "<nil>"] * 6 + ["true"]), err
    assert not path.exists()
