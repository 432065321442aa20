"""Package net of ordinary programs, in the model threaded: as natively, and only where the host allows it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gothreads
from gothreads.build.toolchain import find_go
from gothreads.engine import extension
from gothreads.wasi import resolver
from gothreads.wasi.native_io import NativePeers
from gothreads.wasi.network import NetworkCalls
from gothreads.wasi.peers import Peers
from gothreads.wasi.socket_address import Address
from tests.support.backoff import NEVER
from tests.support.calls_of_python import count_calls
from tests.support.command_line import finished, process
from tests.support.modules import MODULES, built, outside_timeout
from tests.support.sockets_program import address_of, connected, free_port, module, received
from tests.support.systemd import started_with
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


def test_a_script_reads_the_port_that_was_chosen_for_a_listener() -> None:
    with process("run", "--listen", "127.0.0.1:0", module(), "serve") as running:
        assert running.stderr is not None
        lines = (re.fullmatch(rb"gothreads: listening on (127\.0\.0\.1:[1-9]\d*)\n", line) for line in running.stderr)
        found = next(line for line in lines if line is not None)
        echoes(found[1].decode())
        running.kill()


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


def test_options_of_private_sockets_are_accepted_and_kept() -> None:
    with running("options") as (app, out):
        assert app.wait(PATIENCE) == 0
    made, *connection, of_listener, listener = out.getvalue().splitlines()
    assert made == "<nil> <nil> <nil> <nil>"
    assert connection == ["<nil> Protocol not available", "0 1 32768 7 "]  # Linux doubles the size of a buffer
    assert (of_listener, listener.split()[3]) == ("<nil> Protocol not available", "7")


def kinds_of_peers() -> list[type[Peers]]:
    return [Peers] if extension.compiled is None else [Peers, NativePeers]


@pytest.mark.parametrize("kind", kinds_of_peers())
def test_only_the_latest_senders_are_remembered(kind: type[Peers]) -> None:
    known, own = kind(), Address(socket.AF_INET, "127.0.0.1", 53)
    senders = [Address(socket.AF_INET, "192.0.2.1", port) for port in range(known.most + 1)]
    for sender in (*senders[:-1], senders[0], senders[-1]):
        known.add_sender(own, sender)
    assert [known.has_sent(own, sender) for sender in (senders[0], senders[1], senders[2], senders[-1])] == [
        True, False, True, True]
    assert not known.has_sent(senders[0], senders[0])


@pytest.mark.parametrize("kind", kinds_of_peers())
def test_as_many_senders_are_remembered_whatever_the_order(kind: type[Peers]) -> None:
    chance, known, latest = random.Random(1), kind(), dict[Address, None]()
    own, senders = Address(socket.AF_INET6, "::", 53), [Address(socket.AF_INET6, "2001:db8::1", port, zone)
                                                        for port in range(10_000) for zone in range(2)]
    for _ in range(50_000):
        sender = chance.choice(senders)
        known.add_sender(own, sender)
        latest.pop(sender, None)
        latest[sender] = None
    expected = set([*latest][-known.most:])
    assert {sender for sender in senders if known.has_sent(own, sender)} == expected
    assert len(latest) > len(expected) == known.most


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


@pytest.mark.parametrize("how", ["by number", "by address"])
def test_run_passes_on_what_systemd_has_opened(how: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        address = f"127.0.0.1:{tcp.getsockname()[1]}"
        waiting = connected(address)  # a client that came before there was a server
        args = ["handed"] if how == "by number" else ["serve", f":{tcp.getsockname()[1]}"]
        with waiting, started_with([tcp, unix], "run", built("plainnet"), *args,
                                   stdout=subprocess.PIPE) as running:
            try:
                waiting.sendall(b"early")
                assert received(waiting, 5) == b"early"
                echoes(address)
                if how == "by number":
                    echoes(str(tmp_path / "s"))
                running.terminate()
                out, err = running.communicate(timeout=PATIENCE)
            finally:
                running.kill()
    assert running.returncode == 143
    assert f"listening on {address}\n" in err.decode()
    if how == "by number":
        assert sorted(line for line in out.decode().split() if line.startswith("name")) == ["name0", "name1"]


def test_what_is_not_a_socket_that_listens_cannot_be_passed_on(tmp_path: Path) -> None:
    with socket.socket() as quiet, socket.socket(type=socket.SOCK_DGRAM) as datagrams, open(os.devnull) as file:
        for each, why in ((quiet, "this socket does not listen for connections"),
                          (datagrams, "this socket does not listen for connections"),
                          (file, "Socket operation on non-socket; expected a socket that listens")):
            with pytest.raises(gothreads.GothreadsError, match=f"^--listen fd:{each.fileno()}: {why}$"):
                gothreads.open(built("plainnet"), args=["handed"], listen=[f"fd:{each.fileno()}"])


@pytest.mark.long
def test_run_does_not_stop_a_program_with_many_goroutines() -> None:
    with process("run", built("plainnet"), "pauses") as running:
        out, _ = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out) == (0, b"0\n")


@pytest.mark.parametrize("protocol", ["tcp", "unix"])
def test_listeners_stay_open_while_a_module_is_replaced(protocol: str, tmp_path: Path,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    address = f"127.0.0.1:{free_port()}" if protocol == "tcp" else str(tmp_path / "s")
    given = address if protocol == "tcp" else f"unix:{address}"
    with caplog.at_level(logging.INFO, "gothreads"), \
            gothreads.supervise(built("plainnet"), args=["once", protocol, address], listen=[given],
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
        refusal(f"listen tcp :{other}: bind", "--listen",
                f"127.0.0.1:{other}, or for other machines too --listen 0.0.0.0:{other}"),
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
        refusal("listen tcp :8080: bind", "--listen", "127.0.0.1:8080, or for other machines too --listen 0.0.0.0:8080"),
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


def test_an_address_that_a_name_no_longer_has_is_not_allowed_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_MOST_ADDRESSES", 1)
    with socket.create_server(("127.0.0.2", 0)) as server:
        port, look_up, answers = server.getsockname()[1], socket.getaddrinfo, iter(["127.0.0.2", "127.0.0.3"])
        monkeypatch.setattr(socket, "getaddrinfo", lambda name, *rest: look_up(
            next(answers) if name == "peer.example" else name, *rest))
        by_name, *by_address, _, after = tried(
            ("dial", "tcp", f"peer.example:{port}"), *[("dial", "tcp", address_of(server))] * 3,
            ("lookup", "", "peer.example"), ("dial", "tcp", address_of(server)), allow_net=[f"peer.example:{port}"])
        assert [by_name, *by_address] == ["false <nil>"] * 4
        assert after == refusal(f"dial tcp 127.0.0.2:{port}: connect", "--allow-net", f"127.0.0.2:{port}")


def test_a_goroutine_that_finds_data_each_time_lets_others_run() -> None:
    """Otherwise it would keep its P until it is preempted, after 10 ms, and a server's other connections would wait."""
    with running("turns") as (app, out):
        assert app.wait(PATIENCE) == 0
    assert 0 <= int(out.getvalue()) <= 32


@pytest.mark.skipif(extension.compiled is None, reason=f"without C: {extension.missing}")
def test_what_the_rules_have_allowed_once_needs_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    count_calls(monkeypatch, NetworkCalls, ("net_socket", "net_connect", "net_receive", "net_send", "net_name",
                                            "net_setsockopt"), asked)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address_of(server)
        assert tried(*[("dial", "tcp", address)] * 5, allow_net=[address]) == ["false <nil>"] * 5
        assert asked == ["net_connect"]
    asked.clear()
    with datagram_socket() as probe:
        port = probe.getsockname()[1]
    with running("answer", f"127.0.0.1:{port}", allow_net=[f"127.0.0.1:{port}"]) as (_, out), datagram_socket() as client:
        wait_until(lambda: out.getvalue())
        asked.clear()
        for _ in range(3):
            client.sendto("{}:{}".format(*client.getsockname()).encode(), ("127.0.0.1", port))
            assert client.recv(100) == b"x"
            assert client.recv(100).endswith(b" <nil>")
    assert asked == []


@pytest.mark.skipif(extension.compiled is None, reason=f"without C: {extension.missing}")
def test_an_answer_of_the_rules_is_not_kept_when_they_have_changed_since() -> None:
    io, address = NativePeers(), Address(socket.AF_INET, "192.0.2.1", 80)
    before = io.version()
    io.forget()
    assert io.version() != before
    io.allow(address, before)  # no error, and no effect: what C then does is tested above
    for wrong in (b"", b"x" * 23, b"x" * 25):
        with pytest.raises(ValueError, match="not an address"):
            io.native.allow(wrong, before)
