"""crypto/tls and HTTP/2, as package net/http has them, over sockets of the host's (tests/modules/https)."""

from __future__ import annotations

from pathlib import Path

import pytest

import gothreads
from tests.support.modules import built
from tests.support.waiting import together

pytestmark = pytest.mark.long  # another net/http is built for these


def test_two_goroutines_speak_tls_and_http2_over_a_socket() -> None:
    with gothreads.open(built("https"), allow_net=["*:*"]) as app:
        assert app.request("once", "over a socket") == b"OVER A SOCKET HTTP/2.0 304, client HTTP/2.0"


def test_many_do_so_at_once() -> None:
    with gothreads.open(built("https"), allow_net=["127.0.0.1:*"]) as app:
        said = together(*(lambda i=i: app.request("once", f"number {i}") for i in range(8)))
    assert said == [f"NUMBER {i} HTTP/2.0 304, client HTTP/2.0".encode() for i in range(8)]


def test_a_program_with_network_has_the_authorities_of_this_machine(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    with gothreads.open(built("https"), allow_net=["unix:*"]) as app:
        assert app.request("authorities") == b"0"
        own.write_bytes(app.request("certificate"))
    with gothreads.open(built("https"), allow_net=["127.0.0.1:*"]) as app:
        assert app.request("authorities") == b"1"
    with gothreads.open(built("https"), allow_net=["*:*"], env={"SSL_CERT_FILE": "/none"}) as app:
        assert app.request("authorities") == b"0"
