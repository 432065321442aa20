"""`gothreads top`: of a program that it runs, and of an app on a server."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest

from gothreads.cli.live_figures import Place, places
from gothreads.profiles.profile import Profile
from gothreads.profiles.samples import Line, Sample, ValueType
from tests.support.command_line import command, finished
from tests.support.keys import Keys
from tests.support.server import running


def test_an_app_of_a_server(calls: Path, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    for name, rights in (("all", ("*",)), ("figures", ("metrics",))):
        key = keys.new(name, *rights)["Authorization"].removeprefix("Bearer ")
        (tmp_path / name).write_text(key)
    with running("--api-keys", keys.path, calls) as server:
        server.client.headers["Authorization"] = f"Bearer {(tmp_path / 'all').read_text()}"
        calling = threading.Event()

        def call() -> None:
            while not calling.is_set():
                server.call("add", 2, 3)
                server.call("count")
        thread = threading.Thread(target=call)
        thread.start()
        try:
            url = str(server.client.base_url)
            code, out, said = command("top", url, "--once", "--json", "--key-file", tmp_path / "all")
            assert code == 0, said
            about = json.loads(out)
            assert about["state"] == "running"
            assert {"add", "count"} >= {each["name"] for each in about["calls"]["by_name"]} != set()
            assert "main.main" in {place["function"] for place in about["places"]}
            code, out, said = command("top", url, "--once", "--sort", "name", "--filter", "add", "--key-file",
                                      tmp_path / "figures")
            assert code == 0, said
            assert "export count" not in out
            assert "where goroutines are cannot be seen: " in out
            assert "'inspect'" in out
            assert command("top", url, "--once")[0] == 1
            code, _, said = command("top", url, "--once", "--app", "none", "--key-file", tmp_path / "all")
            assert (code, "which app? Name one of them with --app: " in said) == (1, True)
        finally:
            calling.set()
            thread.join()


def test_a_program_that_it_runs(calls: Path) -> None:
    code, out, said = finished("top", calls, "--once")
    assert code == 0, said
    assert out.startswith("threaded, running, for ")
    assert "main.main" in out
    code, out, said = finished("top", calls, "--once", "--json")
    assert code == 0, said
    assert json.loads(out)["go"]["procs"] > 0


def test_places_are_where_the_program_is_and_not_go() -> None:
    def sample(count: int, state: str, *names: str) -> Sample:
        return Sample(tuple(Line(name) for name in names), (count,), (("state", state),))
    found = Profile.of("goroutine", [ValueType("goroutine", "count")], [
        sample(2, "sync.Mutex.Lock", "internal/sync.(*Mutex).lockSlow", "sync.(*Mutex).Lock", "main.sell"),
        sample(3, "sync.Mutex.Lock", "sync.(*Mutex).Lock", "main.sell", "main.main"),
        sample(1, "sleep", "time.Sleep", "runtime.goexit")])
    assert places(found) == (Place(5, "sync.Mutex.Lock", "main.sell"), Place(1, "sleep", "time.Sleep"))


@pytest.mark.parametrize("answer", [b"no json", b"[]", b'{"apps": 1}', b'{"apps": [{"name": "x"}]}', b"\xff" * 100])
def test_what_is_no_server_of_ours_is_told(answer: bytes) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer if self.path == "/api/dashboard" else b"event: figures\ndata: {}\n\n")

        def log_message(self, *_: object) -> None:
            pass
    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            code, _, said = command("top", f"http://127.0.0.1:{other.server_port}", "--once")
        finally:
            other.shutdown()
            thread.join()
    assert (code, "does not answer as " in said) == (1, True), said


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (("http://127.0.0.1:9",), 1, "http://127.0.0.1:9 cannot be reached"),
    (("app.wasm", "--sort", "x"), 2, "invalid choice: 'x'"),
    (("app.wasm", "--app", "x"), 1, "--app and --key-file are for servers"),
])
def test_what_is_wrong_is_told(arguments: tuple[str, ...], code: int, told: str) -> None:
    found, _, said = command("top", *arguments)
    assert (found, told in said) == (code, True), said
