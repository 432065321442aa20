"""The conformance runner on servers: each has its parts, and the table says what was run."""

from __future__ import annotations

import pytest

from conformance.servers.cases import OWN, SERVERS, Server, select
from conformance.servers.page import table
from conformance.servers.serving import GOPATH, Served
from gothreads.errors import MisuseError


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_a_server_has_a_client_and_values_for_all_texts(server: Server) -> None:
    assert (GOPATH / "src" / OWN / "clients" / server.client / "main.go").exists()
    assert server.is_unchanged or (GOPATH / "src" / server.program / "main.go").exists()
    values = {"host": "h", "port": 1, "other": 2, "folder": "f"}
    for text in (*server.arguments, *server.options, *server.client_arguments, server.address,
                 *(text for _, text in server.files)):
        assert text.format_map(values)


def test_an_unknown_server_is_named() -> None:
    with pytest.raises(MisuseError, match="no server 'http'; there are: chi, websocket"):
        select(["http"])


def test_the_table_says_what_was_run() -> None:
    ran = {server: Served(12345, 10.0, 1.25, 99.9) for server in select(["chi", "proxy"])}
    assert table(ran, {"golang-github-go-chi-chi-dev": "5.2.0-1"}, "go1.27.3", 64).splitlines()[4:] == [
        "| HTTP router | `github.com/go-chi/chi/_examples/graceful` | golang-github-go-chi-chi-dev 5.2.0-1 | `GET /` "
        "| 12,345 in 10 s |",
        "| `httputil.ReverseProxy` | [`servers/programs/proxy`](../conformance/servers/gopath/src/servers/programs/proxy) "
        "| std | a body of up to 512 KB, there and back | 12,345 in 10 s |"]
