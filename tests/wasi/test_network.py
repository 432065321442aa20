"""Package net of ordinary programs, in the model threaded: as natively, and only where the host allows it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gothreads
from gothreads.build.toolchain import find_go
from gothreads.wasi.senders import Senders
from gothreads.wasi.socket_address import Address
from tests.support.backoff import NEVER
from tests.support.command_line import finished, process
from tests.support.modules import MODULES, built, outside_timeout
from tests.support.sockets_program import address_of, connected, free_port, received
from tests.support.waiting import PATIENCE, wait_until


@contextmanager
def running(*args: str, **options: object) -> Iterator[tuple[gothreads.App, io.StringIO]]:
    """The program, and what it has printed so far."""
    out = io.StringIO()
    with gothreads.open(built("plainnet"), args=args, stdout=out, procs=2, **options) as app:  # type: ignore[arg-type]
        yield app, out


def tried(*attempts: tuple[str, str, str], **options: object) -> list[str]:
    """A line for each attempt: whether the error is fs.ErrPermission, and its text."""
    with running("try", *(word for attempt in attempts for word in attempt), **options) as (app, out):
        assert app.wait(PATIENCE) == 0
    return out.getvalue().splitlines()


def refusal(operation: str, flag: str, rule: str) -> str:
    return f"true {operation} (to allow it: {flag} {rule}): not allowed by the host"


def datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(PATIENCE)
    return made


def echoes(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"hello")
        assert received(client, 5) == b"hello"


@pytest.mark.long
def test_package_net_does_what_it_does_natively(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("native", "here")]
    for folder in folders:
        folder.mkdir()
    program = tmp_path / "program"
    with outside_timeout():
        environment = os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": ""}
        subprocess.run([find_go(None).go, "build", "-o", program, "."], cwd=MODULES / "network", env=environment,
                       check=True)
    natively = subprocess.run([program, folders[0]], capture_output=True, text=True, timeout=PATIENCE, check=True)
    out, rules = io.StringIO(), ["*:*", *(f"unix:{folders[1]}/{name}" for name in ("socket", "p", "a", "b", "missing"))]
    with gothreads.open(built("network"), args=[str(folders[1])], allow_net=rules,
                        mounts={str(folders[1]): folders[1]}, procs=2, stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    # Texts of errno differ in case only.
    expected, found = ([line.lower().replace(str(folder), "DIR") for line in text.splitlines()]
                       for folder, text in zip(folders, (natively.stdout, out.getvalue()), strict=True))
    assert found == expected
    assert len(found) > 50


def test_that_only_this_machine_can_connect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    for rule, said in ((f"*:{port}", [f"the module listens on port {port} for this machine only. For others, too: "
                                      f"--allow-net 0.0.0.0:{port}"]), (f"127.0.0.1:{port}", []), (f"0.0.0.0:{port}", [])):
        caplog.clear()
        with caplog.at_level(logging.INFO, "gothreads"):
            host = "127.0.0.1" if rule.startswith("127") else ""
            assert tried(("listen", "tcp", f"{host}:{port}"), allow_net=[rule]) == ["false <nil>"]
        assert [record.getMessage() for record in caplog.records] == said


def test_an_address_to_listen_on_without_a_host_is_this_machine(tmp_path: Path) -> None:
    with running("itself", listen=[":0"]) as (app, _):
        assert re.fullmatch(r"127\.0\.0\.1:\d+", app.listening[0])
    port = free_port()
    program = ["run", "--listen", f":{port}", built("plainnet"), "try"]
    assert finished(*program) == (0, "", "")  # it does not listen
    assert finished(*program, "listen", "tcp", f":{port}") == (
        0, "false <nil>\n", f"gothreads: listening on 127.0.0.1:{port}, for this machine only. For others, too: --listen "
                            f"0.0.0.0:{port}\n")


def test_a_program_talks_to_itself_where_nobody_else_can() -> None:
    with running("itself") as (_, out):
        wait_until(lambda: "echoed" in out.getvalue())
        printed = out.getvalue()
        datagrams, stream = (int(port) for port in re.findall(r"(?:receiving|listening) 127\.0\.0\.1:(\d+)", printed))
        assert re.sub(r":\d+", ":PORT", printed).splitlines() == [
            "got datagram true <nil>", "receiving 127.0.0.1:PORT",
            "listening 127.0.0.1:PORT", "echoed bytes true <nil>"]
        with pytest.raises(ConnectionRefusedError):
            connected(f"127.0.0.1:{stream}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.connect(("127.0.0.1", datagrams))
            outside.send(b"x")
            outside.settimeout(PATIENCE)
            with pytest.raises(ConnectionRefusedError):
                outside.recv(1)
        (line,) = tried(("dial", "tcp", f"127.0.0.1:{stream}"))  # another module
        assert line == refusal(f"dial tcp 127.0.0.1:{stream}: connect", "--allow-net", f"127.0.0.1:{stream}")


@pytest.mark.parametrize("wanted", ["127.0.0.1:{}", ":{}", "localhost:{}"])
def test_a_listener_that_was_handed_over_is_what_net_listen_returns(wanted: str) -> None:
    port = free_port()
    with running("serve", wanted.format(port), listen=[f"127.0.0.1:{port}"]) as (_, out):
        wait_until(lambda: out.getvalue())
        assert out.getvalue() == f"listening 127.0.0.1:{port}\n"
        echoes(f"127.0.0.1:{port}")


@pytest.mark.parametrize("wanted", ["127.0.0.1:{}", ":{}"])
def test_datagrams_are_answered_without_a_rule_for_their_senders(wanted: str) -> None:
    with datagram_socket() as probe:
        port = probe.getsockname()[1]
    with running("answer", wanted.format(port), allow_net=[f"127.0.0.1:{port}"]) as (_, out), \
            datagram_socket() as stranger, datagram_socket() as client:
        wait_until(lambda: out.getvalue())
        assert out.getvalue() == f"receiving 127.0.0.1:{port}\n"
        own, other = (f"127.0.0.1:{one.getsockname()[1]}" for one in (client, stranger))
        client.connect(("127.0.0.1", port))
        client.send(own.encode())
        assert [client.recv(200).decode() for _ in range(2)] == ["x", f"{own} <nil>"]
        client.send(other.encode())
        refused = f"{own} write udp 127.0.0.1:{port}->{other}: send (to allow it: --allow-net {other})"
        assert client.recv(200).decode() == f"{refused}: not allowed by the host"


def test_only_the_latest_senders_are_remembered() -> None:
    senders, own = Senders(), Address(socket.AF_INET, "127.0.0.1", 53)
    peers = [Address(socket.AF_INET, "192.0.2.1", port) for port in range(senders.most + 1)]
    for peer in (*peers[:-1], peers[0], peers[-1]):
        senders.add(own, peer)
    assert [(own, peer) in senders for peer in (peers[0], peers[1], peers[2], peers[-1])] == [True, False, True, True]
    assert (peers[0], peers[0]) not in senders


def test_closing_a_listener_that_was_handed_over_refuses_clients_until_the_program_listens_again() -> None:
    address = f"127.0.0.1:{free_port()}"
    with running("again", address, listen=[address], allow_net=[address]) as (_, out):
        wait_until(lambda: "listening" in out.getvalue())
        assert out.getvalue() == f"true\nlistening {address}\n"
        echoes(address)


def test_run_listens_for_a_program_that_knows_nothing_of_it() -> None:
    port = free_port()
    with process("run", "--listen", f"127.0.0.1:{port}", built("plainnet"), "serve", f":{port}") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == f"listening 127.0.0.1:{port}\n".encode()
        echoes(f"127.0.0.1:{port}")
        running.terminate()
        assert running.wait(PATIENCE) == 143


@pytest.mark.long
def test_run_does_not_stop_a_program_with_many_goroutines() -> None:
    with process("run", built("plainnet"), "pauses") as running:
        out, _ = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out) == (0, b"0\n")


@pytest.mark.parametrize("network", ["tcp", "unix"])
def test_listeners_stay_open_while_a_module_is_replaced(network: str, tmp_path: Path,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    address = f"127.0.0.1:{free_port()}" if network == "tcp" else str(tmp_path / "s")
    given = address if network == "tcp" else f"unix:{address}"
    with caplog.at_level(logging.INFO, "gothreads"), \
            gothreads.supervise(built("plainnet"), args=["once", network, address], listen=[given],
                                backoff=NEVER) as supervised:
        for instance in range(1, 4):
            with connected(address) as client:
                if instance > 1:
                    with contextlib.suppress(gothreads.GuestExit):  # it may have answered already
                        supervised.restart()
                assert received(client, 6) == b"served"
            wait_until(lambda: supervised.state is gothreads.State.RESTARTING)  # for ever, with this backoff
            said = [record.getMessage() for record in caplog.records]
            assert said.count(f"listening on {given}") == instance
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        connected(address)


def test_a_listener_is_handed_over_for_its_own_address_only(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    other = free_port()
    assert tried(("listen", "tcp", f"127.0.0.2:{port}"), ("listen", "tcp", f":{other}"), ("packets", "udp", f":{port}"),
                 listen=[f"127.0.0.1:{port}"]) == [
        refusal(f"listen tcp 127.0.0.2:{port}: bind", "--listen", f"127.0.0.2:{port}"),
        refusal(f"listen tcp :{other}: bind", "--listen", f"127.0.0.1:{other}"),
        refusal(f"listen udp :{port}: bind", "--allow-net", f"127.0.0.1:{port}")]
    assert [record.getMessage() for record in caplog.records] == [
        f"the program wants to listen on 127.0.0.2:{port}, but listen (--listen) is 127.0.0.1:{port}. Let them agree: "
        f"--listen 127.0.0.2:{port}, or tell the program the other address"]


def test_multicast_and_interfaces_of_the_host_are_not_there() -> None:
    assert tried(("multicast", "udp4", "224.0.0.251:5353"), ("interfaces", "", ""), allow_net=["*:*"]) == [
        "false listen udp4 224.0.0.251:5353: the host passes on no multicast: a module's sockets have single addresses",
        "false lo: 127.0.0.1/8 ::1/128"]


def test_datagrams_of_unix_sockets_are_answered_by_other_processes(tmp_path: Path) -> None:
    path, outside = tmp_path / "inside", tmp_path / "outside"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(outside))
        other.settimeout(PATIENCE)
        with running("unixgram", str(path), str(outside), allow_net=[f"unix:{path}", f"unix:{outside}"]) as (app, out):
            message, sender = other.recvfrom(100)
            assert message == b"hello"
            other.sendto(b"hello yourself", sender)
            assert app.wait(PATIENCE) == 0
        assert out.getvalue() == f"hello yourself {outside} <nil>\n"
    assert not path.exists()


def test_refusals_name_the_option_that_would_allow_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    lines = tried(
        ("dial", "tcp", "127.0.0.1:80"), ("dial", "tcp", "[2001:db8::1]:80"), ("dial", "udp", "192.0.2.1:53"),
        ("send", "udp", "192.0.2.1:53"), ("dial", "unix", str(path)),
        ("listen", "tcp", "127.0.0.1:8080"), ("listen", "tcp", ":8080"), ("listen", "tcp", "192.0.2.1:0"),
        ("packets", "udp", "127.0.0.1:53"), ("listen", "unix", str(path)),
        ("lookup", "", "name.example"), ("dial", "tcp", "name.example:80"))
    assert [re.sub(r":\d+->", ":PORT->", line) for line in lines] == [
        refusal("dial tcp 127.0.0.1:80: connect", "--allow-net", "127.0.0.1:80"),
        refusal("dial tcp [2001:db8::1]:80: connect", "--allow-net", "[2001:db8::1]:80"),
        refusal("dial udp 192.0.2.1:53: connect", "--allow-net", "192.0.2.1:53"),
        "true write udp 127.0.0.1:PORT->192.0.2.1:53: send (to allow it: --allow-net 192.0.2.1:53): not allowed by the host",
        refusal(f"dial unix {path}: connect", "--allow-net", f"unix:{path}"),
        refusal("listen tcp 127.0.0.1:8080: bind", "--listen", "127.0.0.1:8080"),
        refusal("listen tcp :8080: bind", "--listen", "127.0.0.1:8080"),
        refusal("listen tcp 192.0.2.1:0: listen", "--listen", "192.0.2.1:0"),
        refusal("listen udp 127.0.0.1:53: bind", "--allow-net", "127.0.0.1:53"),
        refusal(f"listen unix {path}: bind", "--listen", f"unix:{path}"),
        refusal("lookup name.example: lookup", "--allow-net", "name.example:PORT"),
        refusal("dial tcp: lookup name.example: lookup", "--allow-net", "name.example:PORT")]
    assert not path.exists()


def test_a_rule_by_name_covers_the_addresses_that_the_name_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.2", 0)) as server, socket.create_server(("127.0.0.1", 0)) as local:
        port, here = server.getsockname()[1], local.getsockname()[1]
        look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda name, *rest: look_up(
            "127.0.0.2" if name == "peer.example" else name, *rest))
        before, by_name, after, other_port, other = tried(
            ("dial", "tcp", address_of(server)), ("dial", "tcp", f"PEER.example:{port}"),
            ("dial", "tcp", address_of(server)), ("dial", "tcp", f"peer.example:{here}"),
            ("dial", "tcp", address_of(local)), allow_net=[f"peer.example:{port}"])
        assert before == refusal(f"dial tcp 127.0.0.2:{port}: connect", "--allow-net", f"127.0.0.2:{port}")
        assert (by_name, after) == ("false <nil>", "false <nil>")
        assert other_port == refusal(f"dial tcp 127.0.0.2:{here}: connect", "--allow-net", f"127.0.0.2:{here}")
        assert other == refusal(f"dial tcp 127.0.0.1:{here}: connect", "--allow-net", f"127.0.0.1:{here}")
        assert tried(("dial", "tcp", f"localhost:{here}"), ("dial", "tcp", f"127.0.0.1:{here}"),
                     ("listen", "tcp", "localhost:0"), allow_net=[f"localhost:{here}"]) == ["false <nil>"] * 3
