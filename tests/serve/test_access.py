"""Request ids, the access log, and logs as JSON."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import gothreads
from gothreads.output.json_lines import record_line
from tests.support.keys import Keys, bearer
from tests.support.server import running
from tests.support.web import ask, talk


@pytest.mark.parametrize("given", ["abc-1.2_3~", "a" * 128])
def test_a_requests_id_comes_back(app: gothreads.App, given: str) -> None:
    for path in ("/readyz", "/nothing"):
        assert ask(app, "GET", path, headers={"X-Request-ID": given}).headers.get_list("X-Request-ID") == [given]


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "a\"b", "a{b", "é"])
def test_an_id_that_could_do_harm_or_is_too_long_is_replaced(app: gothreads.App, given: str) -> None:
    reply = ask(app, "GET", "/readyz", headers={"X-Request-ID": given.encode()})
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["X-Request-ID"])


def test_a_request_without_an_id_or_with_two_gets_one_of_its_own(app: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        twice = [("X-Request-ID", "a"), ("X-Request-ID", "b")]
        ids = [(await client.get("/readyz", headers=headers)).headers["X-Request-ID"] for headers in ([], [], twice)]
        assert len(set(ids)) == 3
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    talk(app, conversation)


def test_refused_requests_have_ids_and_are_logged_too(app: gothreads.App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gothreads.access")

    async def conversation(client: httpx.AsyncClient) -> None:
        await client.post("/api/call/add", json={"args": [2, 3]}, headers={"X-Request-ID": "one"})
        await client.get("/", headers={"Host": "evil.example", "X-Request-ID": "two"})
        await client.get("/a%0Ab%1B[31m?secret=1", headers={"X-Request-ID": "three"})
    talk(app, conversation, access_log=True)
    one, two, three = (record for record in caplog.records if record.name == "gothreads.access")
    assert fields(one) == {"request_id": "one", "client": "127.0.0.1", "identity": "", "method": "POST",
                           "path": "/api/call/add", "status": 200, "bytes": len('{"result":5}')}
    assert re.fullmatch(r'127\.0\.0\.1 "POST /api/call/add" 200 12 bytes \d+\.\d ms one', one.getMessage())
    assert (fields(two)["request_id"], fields(two)["status"]) == ("two", 421)
    assert fields(three)["status"] == 404
    assert three.getMessage().isprintable()
    assert "secret" not in three.getMessage()


def fields(record: logging.LogRecord) -> dict[str, Any]:
    assert 0 <= record.__dict__["seconds"] < 100
    return {name: record.__dict__[name]
            for name in ("request_id", "client", "identity", "method", "path", "status", "bytes")}


def test_the_log_has_whose_key_it_was_and_not_the_key(app: gothreads.App, tmp_path: Path,
                                                      caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(tmp_path / "keys.txt")
    key = keys.new("ci", "call/add")
    caplog.set_level(logging.INFO, "gothreads.access")

    async def conversation(client: httpx.AsyncClient) -> None:
        for path, headers in (("add", key), ("count", key), ("add", bearer("gtk_wrong")), ("add", None)):
            await client.post(f"/api/call/{path}", json={"args": [2, 3]}, headers=headers)
    talk(app, conversation, access_log=True, api_keys=keys.path)
    records = [record for record in caplog.records if record.name == "gothreads.access"]
    assert [(fields(record)["status"], fields(record)["identity"]) for record in records] == [
        (200, "key ci"), (403, "key ci"), (401, ""), (401, "")]
    assert records[0].getMessage().startswith('127.0.0.1 (key ci) "POST /api/call/add" 200 ')
    assert not any("gtk_" in str(record.__dict__) for record in records)


def test_without_the_option_nothing_is_logged(app: gothreads.App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ask(app, "GET", "/readyz")
    assert not [record for record in caplog.records if record.name == "gothreads.access"]


def test_a_servers_log_is_json_on_request(calls: Path) -> None:
    with running("--log-format", "json", "--access-log", calls) as server:
        assert server.client.post("/api/call/add", json={"args": [2, 3]},
                                  headers={"X-Request-ID": "mine"}).json() == {"result": 5}
        server.process.send_signal(signal.SIGTERM)
        code, said = server.end()
    assert code == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["time"])
    accessed = [line for line in lines if line["logger"] == "gothreads.access"]
    assert {"request_id": "mine", "status": 200, "path": "/api/call/add", "method": "POST",
            "level": "info"}.items() <= accessed[0].items()
    assert (lines[-1]["logger"], lines[-1]["message"]) == ("gothreads", "stopped by SIGTERM")


def test_the_access_log_of_a_server_is_text_by_default(calls: Path) -> None:
    with running("--access-log", calls) as server:
        server.client.get("/readyz", headers={"X-Request-ID": "mine"})
        server.process.send_signal(signal.SIGTERM)
        _, said = server.end()
    assert re.match(r'gothreads: 127\.0\.0\.1 "GET /readyz" 200 11 bytes \d+\.\d ms mine\n', said)


def test_a_records_fields_and_traceback_are_in_its_line() -> None:
    try:
        raise ValueError("x\x1b\n")
    except ValueError:
        record = logging.getLogger("gothreads.test").makeRecord(
            "gothreads.test", logging.ERROR, "file.py", 1, "failed: %s", ("y",), sys.exc_info(),
            extra={"request_id": "one", "path": Path("/x")})
    line = record_line(record)
    assert line.count("\n") == 1
    assert line.strip().isprintable()
    told = json.loads(line)
    assert told["time"].endswith("Z")
    assert {name: told[name] for name in ("level", "logger", "message", "request_id", "path")} == {
        "level": "error", "logger": "gothreads.test", "message": "failed: y", "request_id": "one", "path": "/x"}
    assert told["traceback"].endswith("ValueError: x\x1b\n\n")
