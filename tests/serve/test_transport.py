"""TLS, mutual TLS, Unix sockets, and sockets that somebody else has opened."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import gothreads
from gothreads.errors import MisuseError
from gothreads.output.terminal import Terminal
from gothreads.serve import server
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.guard import Hosts
from gothreads.serve.listeners import Address
from gothreads.serve.serving import Serving, Transport
from gothreads.serve.tls import Tls
from tests.support.command_line import GOTHREADS, command
from tests.support.server import Server, running
from tests.support.systemd import started_with
from tests.support.waiting import PATIENCE, wait_until


class Certificates:
    """A server's certificate, and clients', of one authority."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority, self.server, self._folder, self._made = folder / "ca.pem", folder / "server.pem", folder, authority
        authority.cert_pem.write_to_path(str(self.authority))
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.server))

    def client(self, name: str, *, authority: trustme.CA | None = None, common_name: str | None = None) -> Path:
        path = self._folder / f"{name}.pem"
        made = (authority or self._made).issue_cert(name, common_name=common_name)
        made.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def context(self, client: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        if client is not None:
            context.load_cert_chain(client)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def mutual(calls: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("client.example.org certificate call/add\nwith.a.name certificate *\n")
    with running("--tls-cert", certificates.server, "--tls-client-ca", certificates.authority, "--api-keys", keys,
                 "--access-log", calls) as started:
        yield started


def url(server: Server) -> str:
    return str(server.client.base_url)


def add(at: str, **options: Any) -> httpx.Response:
    with httpx.Client(timeout=PATIENCE, **options) as client:
        return client.post(f"{at}/api/call/add", json={"args": [2, 3]})


def test_a_server_speaks_tls_and_nothing_else(calls: Path, certificates: Certificates) -> None:
    with running("--tls-cert", certificates.server, calls) as server:
        at = url(server)
        assert at.startswith("https://127.0.0.1:")
        assert add(at, verify=certificates.context()).json() == {"result": 5}
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            add(at)
        with pytest.raises(httpx.TransportError):
            add(at.replace("https", "http"))
        old = certificates.context()
        with warnings.catch_warnings(action="ignore"):  # that these versions are old
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            add(at, verify=old)
        text = b"abc" * (3 << 20)  # an answer that is sent in many pieces
        with httpx.Client(base_url=at, verify=certificates.context(), timeout=PATIENCE) as client:
            assert client.post("/api/request/upper", content=text).content == text.upper()
        server.process.terminate()
        code, said = server.end()
        assert code == 0
        assert "Traceback" not in said


def test_a_certificate_of_a_client_is_who_it_is(mutual: Server, certificates: Certificates) -> None:
    at, client, other = url(mutual), certificates.client("client.example.org"), certificates.client("other.example.org")
    assert add(at, verify=certificates.context(client)).json() == {"result": 5}
    with httpx.Client(base_url=at, verify=certificates.context(client)) as talking:
        for _ in range(2):  # on one connection
            refused = talking.post("/api/call/count")
            assert (refused.status_code, refused.json()) == (403, {"error": "client.example.org has no right to "
                                                                            "'call/count'"})
    # The common name says nothing beside another, which authorities check.
    named = certificates.client("third.example.org", common_name="with.a.name")
    with httpx.Client(base_url=at, verify=certificates.context(named)) as talking:
        assert talking.post("/api/call/count").status_code == 401
    refused = add(at, verify=certificates.context(other))
    assert refused.status_code == 401
    assert "no line of the API keys is for the certificate 'other.example.org'" in refused.json()["error"]


def test_without_a_certificate_of_the_authority_nothing_is_read(mutual: Server, certificates: Certificates) -> None:
    stranger = certificates.client("client.example.org", authority=trustme.CA())
    for context in (certificates.context(), certificates.context(stranger)):
        with pytest.raises(httpx.TransportError):
            add(url(mutual), verify=context)
    assert add(url(mutual), verify=certificates.context(certificates.client("client.example.org"))).status_code == 200


@pytest.fixture
def in_process(calls: Path, certificates: Certificates) -> Iterator[tuple[str, int]]:
    """A server in this process, with TLS."""
    import threading
    with gothreads.open(calls) as app, socket.create_server(("127.0.0.1", 0)) as listener:
        apps = Apps([Hosted(lambda: app, {})], drain=0)
        secured = Transport(Tls(str(certificates.server)).context())
        made = server._Server(apps, apps.web(Hosts(), has_metrics=True), Terminal(),
                               Serving(Address("127.0.0.1", 0), transport=secured))
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: made.started)
        yield listener.getsockname()
        made.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gothreads.serve.tls.HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr("gothreads.serve.connection.SEND_SECONDS", 0.2)
    monkeypatch.setattr("gothreads.serve.connection.Connection._patience", 0.2)
    monkeypatch.setattr("gothreads.serve.connection.LEAST_RATE", 1 << 30)


@pytest.mark.usefixtures("hasty")
def test_handshakes_and_readers_that_are_slow_are_not_waited_for(in_process: tuple[str, int],
                                                                 certificates: Certificates) -> None:
    with socket.create_connection(in_process) as silent:
        silent.settimeout(PATIENCE)
        assert silent.recv(1) == b""  # closed, although nothing was sent
    with (socket.create_connection(in_process) as plain,
          certificates.context().wrap_socket(plain, server_hostname="localhost") as client):
        client.settimeout(PATIENCE)
        body = b"x" * (32 << 20)
        head = f"POST /api/request/upper HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        # Nothing of the answer is read. The connection is reset, or ends before all of the answer.
        plain_end = 0
        wait_until(lambda: not established(client))
        try:
            while part := client.recv(1 << 20):
                plain_end += len(part)
        except OSError:
            pass
        assert plain_end < len(body)


@pytest.mark.usefixtures("hasty")
def test_a_client_that_does_not_see_the_end_is_not_waited_for(in_process: tuple[str, int], certificates: Certificates,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gothreads.serve.connection.HEAD_SECONDS", 0.2)
    begin = time.monotonic()
    with (socket.create_connection(in_process) as plain,
          certificates.context().wrap_socket(plain, server_hostname="localhost") as silent):
        wait_until(lambda: not established(silent))
    assert time.monotonic() - begin < 25  # asyncio would wait for 30 s


def established(client: socket.socket) -> bool:
    """Whether TCP still has the connection (TCP_INFO: its first byte is the state, of which 1 is that)."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0] == 1


@pytest.mark.parametrize(("options", "why"), [
    (["--tls-key", "x"], "--tls-key and --tls-client-ca need --tls-cert"),
    (["--tls-client-ca", "x"], "--tls-key and --tls-client-ca need --tls-cert"),
    (["--tls-cert", "{folder}/none"], "none: No such file or directory"),
    (["--tls-cert", "{folder}/ca.pem"], "expected PEM"),
    (["--tls-cert", "{folder}/server.pem", "--tls-client-ca", "{folder}/empty"], "--tls-client-ca"),
    (["--uds", "x", "--fd", "3"], "--uds and --fd exclude each other"),
    (["--fd", "1"], "argument --fd: '1' is not the number of a descriptor"),
    (["--fd", "999"], "--fd 999: Bad file descriptor; expected a socket that listens"),
    (["--trust-proxy", "proxy"], "'proxy' is neither an address nor a network"),
    (["--uds", "{folder}/ca.pem"], "there is something else of that name"),
    (["--uds", "{folder}/none/socket"], "cannot listen on --uds"),
])
def test_what_cannot_be_used_is_said(calls: Path, certificates: Certificates, options: list[str], why: str) -> None:
    folder = certificates.authority.parent
    (folder / "empty").touch()
    code, _, said = command("serve", *[text.format(folder=folder) for text in options], calls)
    assert code in (1, 2)
    assert why in said


def test_a_keys_password_is_not_asked_for(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )
    made = trustme.CA().issue_cert("localhost")
    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "server.pem").write_bytes(made.cert_chain_pems[0].bytes() + locked)
    with pytest.raises(MisuseError, match="without a password"):
        Tls(str(tmp_path / "server.pem")).context()


# Unix sockets, and sockets that are there.

def talk_over(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=PATIENCE)


def serve_at(path: Path, module: Path, *options: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([*GOTHREADS, "serve", "--uds", str(path), *options, str(module)], text=True,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = ""
    while f"on unix:{path} (Ctrl-C to stop)" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return process


def test_a_server_on_a_unix_socket(tmp_path: Path, calls: Path) -> None:
    path = tmp_path / "socket"
    process = serve_at(path, calls, "--max-client-calls", "3", "--metrics-address", "127.0.0.1:0")
    try:
        with talk_over(path) as client:
            assert client.post("/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
            assert client.get("/readyz", headers={"Host": "evil.example"}).status_code == 421
            assert client.get("/metrics").status_code == 404
        code, _, said = command("serve", "--uds", path, calls)
        assert (code, "another server listens there" in said) == (1, True)
        process.kill()  # which leaves the socket behind
        process.wait(PATIENCE)
        assert path.is_socket()
        process = serve_at(path, calls)
        with talk_over(path) as client:
            assert client.get("/readyz").status_code == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert not path.exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("by", ["systemd", "--fd"])
def test_a_socket_that_the_process_was_started_with(calls: Path, by: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = f"http://127.0.0.1:{listener.getsockname()[1]}"
        waiting = socket.create_connection(listener.getsockname())  # a client that came before there was a server
        if by == "systemd":
            process = started_with([listener], "serve", "--port", "1", calls, text=True)
        else:
            process = subprocess.Popen([*GOTHREADS, "serve", "--port", "1", "--fd", str(listener.fileno()), str(calls)],
                                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                       pass_fds=[listener.fileno()])
        try:
            with waiting, waiting.makefile("rb") as replies:
                waiting.settimeout(PATIENCE)
                waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert replies.readline() == b"HTTP/1.1 200 OK\r\n"
            assert add(at).json() == {"result": 5}
            process.terminate()
            said = process.communicate(timeout=PATIENCE)[1]
            assert (process.returncode, f"on {at} " in said) == (0, True)
        finally:
            process.kill()


def test_sockets_of_systemd_for_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from gothreads.serve.listeners import of_systemd
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert of_systemd() is None
    assert not {"LISTEN_PID", "LISTEN_FDS"} & os.environ.keys()
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(gothreads.GothreadsError, match="2 sockets"):
        of_systemd()
