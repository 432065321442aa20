"""Package net of ordinary programs, in the model threaded: as natively, and only where the host allows it."""

from __future__ import annotations

import io
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
from tests.support.command_line import process
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
    out, rules = io.StringIO(), ["*:*", f"unix:{folders[1]}/socket"]
    with gothreads.open(built("network"), args=[str(folders[1])], allow_net=rules,
                        mounts={str(folders[1]): folders[1]}, procs=2, stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    # Texts of errno differ in case only.
    expected, found = ([line.lower().replace(str(folder), "DIR") for line in text.splitlines()]
                       for folder, text in zip(folders, (natively.stdout, out.getvalue()), strict=True))
    assert found == expected
    assert len(found) > 50


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


def test_a_listener_is_handed_over_for_its_own_address_only() -> None:
    port = free_port()
    other = free_port()
    assert tried(("listen", "tcp", f"127.0.0.2:{port}"), ("listen", "tcp", f":{other}"), ("packets", "udp", f":{port}"),
                 listen=[f"127.0.0.1:{port}"]) == [
        refusal(f"listen tcp 127.0.0.2:{port}: bind", "--listen", f"127.0.0.2:{port}"),
        refusal(f"listen tcp :{other}: bind", "--listen", f"127.0.0.1:{other}"),
        refusal(f"listen udp :{port}: bind", "--allow-net", f"127.0.0.1:{port}")]


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
