"""/livez and /readyz, and how a server stops for a load balancer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

import gothreads
from gothreads.serve.served import Served
from tests.support.server import running
from tests.support.waiting import wait_until
from tests.support.web import call, talk


def probed(app: Served) -> dict[str, tuple[int, object]]:
    """What the probes say: status and body."""
    said = {}

    async def look(client: httpx.AsyncClient) -> None:
        for path in ("/livez", "/readyz"):
            reply = await client.get(path)
            said[path] = (reply.status_code, reply.json())
    talk(app, look)
    return said


def test_a_running_module_is_live_and_ready_and_one_that_has_ended_neither(app: gothreads.App) -> None:
    assert probed(app) == {"/livez": (200, {"ok": True}), "/readyz": (200, {"ok": True})}
    call(app, "exits", 3)
    app.wait()
    assert probed(app) == {"/livez": (503, {"error": "the module has ended: exited"}),
                           "/readyz": (503, {"error": "the module takes no calls: exited"})}


def test_a_module_that_restarts_is_live_and_not_ready(calls: Path) -> None:
    backoff = gothreads.Backoff(first=100, most=100, jitter=0)
    with open(os.devnull, "wb") as null, gothreads.supervise(calls, stderr=null, while_down="fail", backoff=backoff,
                                                             on_restart=lambda restart: None) as supervised:
        assert probed(supervised)["/readyz"] == (200, {"ok": True})
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.panics()
        wait_until(lambda: supervised.state is gothreads.State.RESTARTING)
        assert probed(supervised) == {"/livez": (200, {"ok": True}),
                                      "/readyz": (503, {"error": "the module takes no calls: restarting"})}


def test_after_sigterm_a_server_is_not_ready_and_serves_until_the_delay_is_over(calls: Path) -> None:
    with running("--drain-delay", 100_000, calls) as server:
        assert server.client.get("/readyz").status_code == 200
        slow = server.begin("hang")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get("/readyz").status_code == 503)
        assert server.client.get("/readyz").json() == {"error": "the server is about to stop"}
        assert server.client.get("/livez").status_code == 200
        with httpx.Client(base_url=server.client.base_url) as newcomer:
            assert newcomer.post("/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
        assert not slow.done()
        assert server.process.stderr is not None
        assert server.process.stderr.readline() == (
            "gothreads: not ready any more: shutting down in 100000 s (Ctrl-C to stop now)\n")
        server.process.send_signal(signal.SIGTERM)  # the second one ends it
        assert slow.result().status_code == 503
        code, said = server.end()
        assert code == 0
        assert said.endswith("gothreads: stopped by SIGTERM\n")


def test_after_sigterm_no_app_of_a_server_is_ready(calls: Path, tmp_path: Path) -> None:
    file = tmp_path / "gothreads.toml"
    file.write_text(f'[apps.one]\nmodule = "{calls}"\n[apps.two]\nmodule = "{calls}"\nhost = "two.example"\n')
    with running("-c", file, "--drain-delay", 100_000) as server:
        def statuses() -> list[int]:
            return [server.client.get(path, headers=host).status_code for path, host in (
                ("/readyz", {}), ("/one/readyz", {}), ("/readyz", {"Host": "two.example"}))]
        assert statuses() == [200, 200, 200]
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: statuses()[0] == 503)
        assert statuses() == [503, 503, 503]


def test_when_the_delay_is_over_the_server_drains(calls: Path) -> None:
    with running("--drain-delay", 0.3, "--drain", 0.2, calls) as server:
        slow = server.begin("hang")
        server.process.send_signal(signal.SIGTERM)
        assert slow.result().status_code == 503
        assert server.end() == (0, "gothreads: not ready any more: shutting down in 0.3 s (Ctrl-C to stop now)\n"
                                   "gothreads: shutting down: waiting up to 0.2 s for 1 request (Ctrl-C again to stop "
                                   "now)\n"
                                   "gothreads: stopped by SIGTERM\n")


def test_ctrl_c_has_no_delay(calls: Path) -> None:
    with running("--drain-delay", 100_000, calls) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.end() == (0, "gothreads: stopped by SIGINT\n")
