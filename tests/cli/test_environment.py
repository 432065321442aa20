"""Options of `gothreads serve` that come from the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gothreads.cli.main import COMMANDS
from gothreads.cli.parser import UsageError, parse
from tests.support.command_line import command
from tests.support.modules import built
from tests.support.server import running


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GOTHREADS_SERVE_")]:
        monkeypatch.delenv(name)


def test_variables_are_options_and_the_command_line_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MAX_CALLS": "5", "PORT": "9000", "ACCESS_LOG": "1", "WATCH": "0", "TIMEOUT": "2.5",
                        "LOG_FORMAT": "json", "ALLOW_HOST": "a.example.org b.example.org"}.items():
        monkeypatch.setenv(f"GOTHREADS_SERVE_{name}", value)
    found = parse(COMMANDS, ["serve", "--port", "9001", "--allow-host", "c.example.org", "app.wasm", "--port", "x"])
    assert (found.max_calls, found.port, found.timeout, found.log_format) == (5, 9001, 2.5, "json")
    assert (found.access_log, found.watch) == (True, False)
    assert found.allow_host == ["a.example.org", "b.example.org", "c.example.org"]
    assert (found.module, found.args) == ("app.wasm", ["--port", "x"])
    assert parse(COMMANDS, ["run", "app.wasm"]).module == "app.wasm"  # they are for serve only


@pytest.mark.parametrize(("name", "value", "message"), [
    ("MAX_CALLS", "many", "argument --max-calls: 'many' is not a whole number of at least 1 "
                          "(by GOTHREADS_SERVE_MAX_CALLS)"),
    ("LOG_FORMAT", "xml", "(by GOTHREADS_SERVE_LOG_FORMAT)"),
    ("MAX_CALL", "5", "GOTHREADS_SERVE_MAX_CALL stands for no option of gothreads serve. Did you mean "
                      "GOTHREADS_SERVE_MAX_CALLS?"),
    ("HELP", "1", "GOTHREADS_SERVE_HELP stands for no option of gothreads serve"),
    ("ACCESS_LOG", "yes", "GOTHREADS_SERVE_ACCESS_LOG must be 1 (as with --access-log) or 0, not 'yes'"),
])
def test_what_is_wrong_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(f"GOTHREADS_SERVE_{name}", value)
    with pytest.raises(UsageError) as error:
        parse(COMMANDS, ["serve", "app.wasm"])
    assert message in error.value.message


def test_what_kubernetes_sets_for_a_service_of_that_name_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "8080", "SERVICE_PORT_HTTP": "8080",
                        "PORT": "tcp://10.0.0.1:8080", "PORT_8080_TCP": "tcp://10.0.0.1:8080",
                        "PORT_8080_TCP_PROTO": "tcp", "PORT_8080_TCP_PORT": "8080",
                        "PORT_8080_TCP_ADDR": "10.0.0.1"}.items():
        monkeypatch.setenv(f"GOTHREADS_SERVE_{name}", value)
    assert parse(COMMANDS, ["serve", "app.wasm"]).port == parse(COMMANDS, ["serve", "--port", "8080", "app.wasm"]).port


def test_help_comes_whatever_is_wrong_there_and_errors_are_json_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTHREADS_SERVE_NOTHING", "1")
    for flag in ("-h", "--help"):
        code, out, _ = command("serve", flag)
        assert (code, "--max-calls" in out) == (0, True)
    code, out, _ = command("serve", "--check", "--json", "-c", "apps.toml")
    assert code == 2
    assert "GOTHREADS_SERVE_NOTHING" in json.loads(out)["error"]
    with pytest.raises(UsageError, match="GOTHREADS_SERVE_NOTHING"):
        parse(COMMANDS, ["serve", "app.wasm", "--help"])  # which is the module's


def test_a_file_may_be_named_there_and_options_of_one_app_are_for_it(monkeypatch: pytest.MonkeyPatch,
                                                                     tmp_path: Path) -> None:
    file = tmp_path / "apps.toml"
    file.write_text(f'[server]\nport = 1\n[apps.one]\nmodule = "{built("calls")}"\n')
    monkeypatch.setenv("GOTHREADS_SERVE_CONFIG", str(file))
    code, out, err = command("serve", "--check")
    assert (code, err) == (0, "")
    assert "one" in out
    monkeypatch.setenv("GOTHREADS_SERVE_MAX_CALLS", "5")
    code, _, err = command("serve", "--check")
    assert (code, "--max-calls is for the file" in err) == (1, True)


def test_a_limit_of_the_environment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTHREADS_SERVE_JSON_LIMIT", "10")
    with running(built("calls")) as server:
        assert server.call("add", 2, 3).status_code == 413
