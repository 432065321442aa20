"""Parts of Go's standard library that work on threads and not in stock Go: os.Pipe, signal 0, localhost."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import gothreads
from tests.support.files_program import Go, GoError
from tests.support.modules import built
from tests.support.modules import opened as started
from tests.support.sockets_program import Go as Net
from tests.support.sockets_program import opened as with_sockets
from tests.support.waiting import PATIENCE, together, wait_until


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Go]:
    with started("files") as app:
        yield Go(app, tmp_path)


def test_a_program_captures_its_own_output(go: Go) -> None:
    assert go("captured", "printed\n" * 1000) == "printed\n" * 1000


def test_a_reader_waits_until_something_is_written_and_holds_up_nobody(go: Go) -> None:
    reader, writer = go("pipe")
    waits = go.begin("f.read", reader, 100)
    wait_until(lambda: "IO wait" in str(go.app.goroutines()))
    assert not waits.done()
    assert go("f.write", writer, "hello") == 5
    assert go._answered(waits.result(PATIENCE)) == "hello"
    waits = go.begin("f.readall", reader)
    go("f.write", writer, "the last")
    go("f.close", writer)
    assert go._answered(waits.result(PATIENCE)) == "the last"
    go.fails("EOF", "f.read", reader, 10)


def test_a_writer_waits_for_room_and_is_told_when_nobody_reads_any_more(go: Go) -> None:
    reader, writer = go("pipe")
    waits = go.begin("f.write", writer, "x" * 300_000)
    assert len(go("f.read", reader, 1000)) == 1000
    go("f.close", reader)
    with pytest.raises(GoError, match="EPIPE"):
        go._answered(waits.result(PATIENCE))
    go.fails("EPIPE", "f.write", writer, "x")


def test_each_end_has_one_direction_and_deadlines(go: Go) -> None:
    reader, writer = go("pipe")
    go.fails("EBADF", "f.write", reader, "x")
    go.fails("EBADF", "f.read", writer, 1)
    for op, end, what in (("f.read", reader, 1), ("f.write", writer, "x" * 300_000)):
        go("f.deadline", end, 20)
        with pytest.raises(GoError, match="i/o timeout"):
            go(op, end, what)


def test_pipes_carry_everything_in_order_for_many_at_a_time(go: Go) -> None:
    text = "".join(f"{number:07}\n" for number in range(20_000))

    def carry() -> None:
        reader, writer = go("pipe")
        read = go.begin("f.readall", reader)
        for start in range(0, len(text), 50_000):
            go("f.write", writer, text[start:start + 50_000])
        go("f.close", writer)
        assert go._answered(read.result(PATIENCE)) == text
        go("f.close", reader)
    before = psutil.Process().num_fds()
    together(*[carry] * 12)
    # One more: Go's poller has a descriptor.
    wait_until(lambda: psutil.Process().num_fds() <= before + 1, left=lambda: psutil.Process().num_fds() - before)


@pytest.mark.parametrize("op", ["f.read", "f.write"])
def test_close_ends_who_waits_for_a_pipe(tmp_path: Path, op: str) -> None:
    with started("files") as app:
        go = Go(app, tmp_path)
        reader, writer = go("pipe")
        waits = go.begin(op, *((reader, 1) if op == "f.read" else (writer, "x" * 300_000)))
        wait_until(lambda: "IO wait" in str(app.goroutines()))
    with pytest.raises(gothreads.AppClosed):
        waits.result(PATIENCE)


def test_too_many_pipes_are_an_error_and_leave_no_half(tmp_path: Path) -> None:
    with started("files", limits=gothreads.Limits(files=20)) as app:
        go = Go(app, tmp_path)
        first = go("pipe")
        with pytest.raises(GoError, match="Too many open files"):
            together(*[lambda: go("pipe")] * 20)
        for end in first:
            go("f.close", end)
        assert go("captured", "again") == "again"


def test_a_pipe_that_nobody_reads_does_not_end_a_program_that_sigpipe_ends() -> None:
    program = """if True:
        import json, signal, sys, gothreads
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with gothreads.open(sys.argv[1]) as app:
            def do(op, *args):
                return json.loads(app.request("do", json.dumps({"Op": op, "Args": args})))
            reader, writer = do("pipe")["Value"]
            do("f.close", reader)
            print(do("f.write", writer, "x")["Is"], do("captured", "fine")["Value"])
    """
    done = subprocess.run([sys.executable, "-c", program, built("files")], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "['EPIPE'] fine\n"), done.stderr


def test_signal_0_asks_whether_a_process_is_there(go: Go) -> None:
    assert go("alive", pid := go("alive", 3)) == pid == 3
    with pytest.raises(GoError, match="process already finished"):
        go("alive", 77)
    assert go.app.state is gothreads.State.RUNNING


def test_localhost_is_this_machine_without_asking_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    system = socket.getaddrinfo

    def numbers_only(host: Any, *args: Any, **rest: Any) -> Any:
        if not rest.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "there is nobody to ask")
        return system(host, *args, **rest)
    monkeypatch.setattr(socket, "getaddrinfo", numbers_only)
    with with_sockets("localhost:*") as net:
        assert isinstance(net, Net)
        assert net("fake network", "localhost") == net("fake network", "127.0.0.1") == "hello"
        assert net("look up", "LocalHost") == ["127.0.0.1", "::1"]
        net.fails("no such host|lookup nowhere.invalid", "look up", "nowhere.invalid")
        _, address = net.listen("tcp", "localhost:0")
        assert address.startswith("127.0.0.1:")
        net("close", net("dial", "tcp", f"localhost:{address.split(':')[1]}"))
