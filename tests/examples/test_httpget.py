"""A guest on real sockets: examples/httpget fetches from Python's http.server."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import gothreads
from tests.support.command_line import process
from tests.support.modules import built, ended
from tests.support.sockets_program import free_port
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.long  # another net/http is built for these


@pytest.fixture(scope="session")
def httpget() -> Path:
    return built("httpget")


class Page(BaseHTTPRequestHandler):
    """/N answers with N bytes, and /status/N with that status."""

    protocol_version = "HTTP/1.1"
    server: Pages

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        *status, size = self.path.strip("/").split("/")
        self.send_response(int(size) if status else 200)
        body = b"" if status else b"x" * int(size)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Pages(ThreadingHTTPServer):
    """A web server on a port of its own, and how many have connected."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.connections = 0
        self.address = f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving_pages() -> Iterator[Pages]:
    with Pages() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def pages() -> Iterator[Pages]:
    with serving_pages() as server:
        yield server


def lines(out: str) -> list[tuple[int, int, str]]:
    """Status, bytes and URL of what httpget printed."""
    found = [re.fullmatch(r"(\d+) (\d+) bytes [\d.]+ms (\S+)", line) for line in out.splitlines()]
    assert all(found), out
    return [(int(match[1]), int(match[2]), match[3]) for match in found if match]


def test_urls_are_fetched_where_the_net_is_allowed(httpget: Path, pages: Pages) -> None:
    sizes = [0, 1, 100_000, 5_000_000, *range(1000, 1020)]
    urls = [f"http://{pages.address}/{size}" for size in sizes]
    code, out, err = ended(httpget, *urls, allow_net=[pages.address])
    assert (code, err) == (0, "")
    assert lines(out) == [(200, size, url) for size, url in zip(sizes, urls, strict=True)]


def test_without_allow_net_nothing_is_connected_to(httpget: Path, pages: Pages) -> None:
    url = f"http://{pages.address}/10"
    code, out, err = ended(httpget, url)
    assert (code, out) == (1, "")
    assert err == (f'httpget: {url}: Get "{url}": dial tcp {pages.address}: connect '
                   f"(to allow it: --allow-net {pages.address}): not allowed by the host\n")
    assert pages.connections == 0


def test_only_what_is_allowed_is_connected_to(httpget: Path, pages: Pages) -> None:
    with serving_pages() as other:
        good, bad = f"http://{pages.address}/10", f"http://{other.address}/10"
        code, out, err = ended(httpget, good, bad, allow_net=[pages.address])
    assert other.connections == 0
    assert (code, lines(out)) == (1, [(200, 10, good)])
    assert err.startswith(f"httpget: {bad}: ")
    assert good not in err


def test_an_error_of_the_servers_is_a_failure(httpget: Path, pages: Pages) -> None:
    good, bad = f"http://{pages.address}/10", f"http://{pages.address}/status/404"
    code, out, err = ended(httpget, bad, good, allow_net=[pages.address])
    assert (code, err, lines(out)) == (1, "", [(404, 0, bad), (200, 10, good)])


def test_a_port_that_nobody_listens_on_is_refused(httpget: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    code, out, err = ended(httpget, f"http://{nobody}/", allow_net=[nobody])
    assert (code, out) == (1, "")
    assert "refused" in err


def test_a_server_that_does_not_answer_is_given_up(httpget: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, out, err = ended(httpget, "-timeout", "300ms", f"http://{address}/", allow_net=[address])
    assert (code, out) == (1, "")
    assert "Client.Timeout exceeded" in err


def test_one_module_fetches_from_another(httpget: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    urls = [f"http://{address}/json?name={n}" for n in range(20)]
    with open(os.devnull, "wb") as null, gothreads.open(built("httpd"), args=["-addr", address], listen=[address],
                                                        procs=2, stderr=null), ThreadPoolExecutor(3) as threads:
        for code, out, err in threads.map(lambda _: ended(httpget, *urls, allow_net=[address]), range(3)):
            assert (code, err) == (0, "")
            assert [(status, url) for status, _, url in lines(out)] == [(200, url) for url in urls]


def test_fetching_over_the_command_line(httpget: Path, pages: Pages) -> None:
    url = f"http://{pages.address}/10"
    with process("run", "--allow-net", pages.address, httpget, url) as running:
        out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, err
    assert lines(out.decode()) == [(200, 10, url)]
    with process("run", httpget, url) as running:
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out) == (1, b"")
    assert f"httpget: {url}: ".encode() in err
