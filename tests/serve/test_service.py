"""What a server of several apps says about them: each record has the name of its app."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gothreads.cli.serve_file import read_file
from gothreads.cli.serve_routes import _warn_of_handlers
from gothreads.runtime import settling
from tests.support.modules import opened
from tests.support.server import Server, running
from tests.support.waiting import wait_until

SOURCE = """package main

//go:wasmexport version
func version() int64 { return %d }

func main() { select {} }
"""


def records_of(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def lines(server: Server) -> Iterator[str]:
    """What the server says from now on, as it says it."""
    assert server.process.stderr is not None
    while line := server.process.stderr.readline():
        yield line


def stopped(server: Server) -> list[dict[str, Any]]:
    """The records until its end."""
    server.process.send_signal(signal.SIGTERM)
    code, said = server.end()
    assert code == 0
    return records_of(said)


@pytest.fixture
def file(calls: Path, tmp_path: Path) -> Path:
    """Two apps of the same module, one of which restarts."""
    file = tmp_path / "apps.toml"
    file.write_text(f'''[apps.one]
module = "{calls}"
[apps.two]
module = "{calls}"
restart = "always"
[[apps.two.routes]]
route = "POST /plus"
export = "Add"
[[apps.two.routes]]
route = "POST /loud"
handler = "uper"
[[apps.two.routes]]
route = "POST /upper"
handler = "upper"
''')
    return file


def call(server: Server, app: str, export: str) -> str:
    error: str = server.client.post(f"/{app}/api/call/{export}", json={"args": []}).json()["error"]
    return error


def test_how_an_app_has_ended_is_logged_once_with_its_name(file: Path) -> None:
    with running("--log-format", "json", "-c", file) as server:
        assert call(server, "one", "panics").startswith("one: the module has ended: ")
        assert call(server, "one", "panics").startswith("one: the module has ended: ")
        wait_until(lambda: server.client.get("/one/livez").status_code == 503)
        records = stopped(server)
    (ended,) = [record for record in records if record.get("app") == "one"]
    assert (ended["level"], ended["logger"]) == ("error", "gothreads")
    assert ended["message"].startswith("one: the module has ended: ")


def test_an_app_that_is_closed_has_not_ended(file: Path) -> None:
    with running("--log-format", "json", "--allow-restart", "-c", file) as server:
        for app in ("one", "two"):
            assert server.client.post(f"/api/apps/{app}/restart").json() == {"restarted": True}
        assert [record for record in stopped(server) if record["level"] == "error"] == []


def test_a_restart_is_logged_with_the_apps_name_which_it_has_once(file: Path) -> None:
    with running("--log-format", "json", "-c", file) as server:
        assert call(server, "two", "panics").startswith("two: the module has ended: ")
        found = next(record for line in lines(server) for record in records_of(line)
                     if "restart 1" in record["message"])
    assert found["app"] == "two"
    assert found["message"].startswith("two: restart 1, in 0.1 s: the module has ended: ")


def test_routes_that_lead_nowhere_are_told_with_their_line(file: Path) -> None:
    with running("-c", file) as server:
        assert (f"gothreads: two: {file}:8: the module has no export 'Add'. Did you mean 'add'? It has: "
                in server.begun)
        told = server.begun if "uper" in server.begun else next(line for line in lines(server) if "'uper'" in line)
        assert f"two: {file}:11: the module has no handler 'uper'. Did you mean 'upper'? It has: " in told
        server.process.send_signal(signal.SIGTERM)
        assert "no handler" not in server.end()[1]  # the other route leads to one


@pytest.mark.parametrize(("before", "told"), [("compute", ["uper"]), ("spin", [])])
def test_a_handler_is_called_missing_only_once_main_has_settled(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: str,
        told: list[str]) -> None:
    if before == "spin":  # it never does
        monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.5)
    (tmp_path / "app.wasm").touch()
    file = tmp_path / "apps.toml"
    file.write_text('[apps.one]\nmodule = "app.wasm"\n' + "".join(
        f'[[apps.one.routes]]\nroute = "POST /{name}"\nhandler = "{name}"\n' for name in ("upper", "uper")))
    served = read_file(file)
    with opened("prepares", env={"BEFORE": before}, host={"env": {"ask": lambda: None}}) as app:
        _warn_of_handlers(served, served.apps[0], app)
    assert [record.getMessage().partition("no handler ")[2][:6] for record in caplog.records] == [
        repr(name) for name in told]


@pytest.mark.long
def test_a_change_is_told_at_once_and_two_apps_build_their_module_once(tmp_path: Path) -> None:
    folder, file = tmp_path / "app", tmp_path / "apps.toml"
    folder.mkdir()
    (folder / "go.mod").write_text("module example.org/app\n\ngo 1.25\n")
    (folder / "main.go").write_text(SOURCE % 1)
    file.write_text('[apps.one]\nmodule = "./app"\n[apps.two]\nmodule = "./app"\n')
    with running("--log-format", "json", "--watch", "-c", file) as server:
        (folder / "main.go").write_text(SOURCE % 2)
        records: list[dict[str, Any]] = []
        for line in lines(server):
            records += records_of(line)
            if sum(record["message"].endswith(" is replaced") for record in records) == 2:
                break
        for app in ("one", "two"):
            said = [record["message"] for record in records if record.get("app") == app]
            assert said[0] == f"{app}: {folder / 'main.go'} has changed: building"
            assert said[-1] == f"{app} is replaced"
            reply = server.client.post(f"/{app}/api/call/version", json={"args": []})
            assert reply.json() == {"result": 2}
        compiled = [record for record in records if record["message"].startswith("compiling ")]
        assert len(compiled) == 1
        assert compiled[0]["app"] in ("one", "two")
