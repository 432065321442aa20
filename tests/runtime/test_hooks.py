"""Hooks: a module's `start` is called by open, and its `stop` by close (tests/modules/hooks)."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.runtime import app as app_module
from tests.support.modules import MODELS, built, opened
from tests.support.waiting import PATIENCE, raises_within, under_load, wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.filterwarnings("error")]


THE_OTHER_WAY_ROUND = """package main

import (
	"errors"
	"fmt"
	"os"

	"gothreads/guest"
)

//go:wasmexport stop
func stop() { fmt.Println("stop") }

func init() {
	guest.Handle("start", func(p []byte) ([]byte, error) {
		fmt.Printf("start %q\\n", p)
		if os.Getenv("FAIL") != "" {
			return nil, errors.New("not today")
		}
		return nil, nil
	})
}

func main() { select {} }
"""


def run(model: str, fail: str = "", **options: Any) -> tuple[gothreads.App, io.BytesIO]:
    """Return an app, and the stream that it prints to."""
    said = io.BytesIO()
    instances = options.pop("instances", 1 if model == "pool" else None)
    return opened("hooks", model, stdout=said, stderr=io.BytesIO(), env={"FAIL": fail}, instances=instances,
                  **options), said


@pytest.mark.parametrize("model", MODELS)
def test_start_comes_before_open_returns_and_stop_before_close_does(model: str) -> None:
    app, said = run(model)
    assert said.getvalue() == b"init\nstart\n"
    assert app.exports.count() == 1
    app.close()
    assert said.getvalue() == b"init\nstart\nstop\n"
    app.close()
    assert said.getvalue() == b"init\nstart\nstop\n"
    assert (app.state, app.exit) == (gothreads.State.CLOSED, None)


def test_each_instance_of_a_pool_has_its_own() -> None:
    parked: list[Future[bytes]] = []

    def park(_payload: bytes) -> Future[bytes]:
        parked.append(Future())
        return parked[-1]
    app, said = run("pool", instances=3, handlers={"park": park})
    assert app.exports.count() == 1
    with pytest.raises(gothreads.GuestPanic, match="crashed"):
        app.exports.crash()
    assert app.exports.count() == 1  # in another instance
    busy = [app.submit_request("call", "park") for _ in range(3)]
    wait_until(lambda: len(parked) == 3)  # so the third instance has been replaced
    for future in parked:
        future.set_result(b"")
    assert [future.result(PATIENCE) for future in busy] == [b""] * 3
    app.close()
    assert sorted(said.getvalue().decode().split()) == ["init"] * 4 + ["start"] * 4 + ["stop"] * 3


@pytest.mark.parametrize("model", MODELS)
def test_a_start_that_fails_is_an_error_of_open_and_there_is_no_stop(model: str) -> None:
    said = io.BytesIO()
    with pytest.raises(gothreads.GuestPanic, match="no start"):
        opened("hooks", model, stdout=said, stderr=io.BytesIO(), env={"FAIL": "start"})
    assert said.getvalue() == b"init\nstart\n"


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_handlers_and_exports_may_each_be_hooks_and_a_start_may_be_an_error(model: str, tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module hooks\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text(THE_OTHER_WAY_ROUND)
    said = io.BytesIO()
    with gothreads.open(tmp_path, model=model, stdout=said, instances=1 if model == "pool" else None):
        assert said.getvalue() == b'start ""\n'
    assert said.getvalue() == b'start ""\nstop\n'
    said = io.BytesIO()
    with pytest.raises(gothreads.HandlerError, match="not today"):
        gothreads.open(tmp_path, model=model, stdout=said, env={"FAIL": "1"}, instances=1 if model == "pool" else None)
    assert said.getvalue() == b'start ""\n'


@pytest.mark.parametrize("model", MODELS)
def test_a_stop_that_is_an_error_is_logged_and_the_app_closes(model: str, caplog: pytest.LogCaptureFixture) -> None:
    app, _said = run(model, "stop")
    app.close()
    assert app.state is gothreads.State.CLOSED
    which = "the stop of one instance" if model == "pool" else "the module's stop"
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [f"{which} failed: cannot stop"]
    caplog.clear()


@pytest.mark.parametrize("model", ["threaded", "single", "idle"])
@pytest.mark.parametrize(("fail", "code"), [("exit", 3), ("panic", 2)])
def test_a_module_that_ends_in_its_stop_has_ended_by_itself(model: str, fail: str, code: int) -> None:
    app, said = run(model, fail)
    app.close()
    assert (app.state, app.exit) == (gothreads.State.EXITED, code)
    assert said.getvalue() == b"init\nstart\nstop\n"


def test_all_instances_of_a_pool_are_told_to_stop_though_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    app, said = run("pool", "panic", instances=3)
    app.close()
    assert said.getvalue().count(b"stop\n") == 3
    assert app.state is gothreads.State.CLOSED
    assert [("the stop of one instance failed" in r.getMessage(), "panic: at the stop" in r.getMessage())
            for r in caplog.records] == [(True, True)] * 3
    caplog.clear()


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fail", ["wait", "spin"])
def test_a_stop_that_does_not_return_is_ended(model: str, fail: str, monkeypatch: pytest.MonkeyPatch,
                                              caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(app_module, "HOOK_SECONDS", 0.3)
    app, _said = run(model, fail, handlers={"never": lambda _p: Future()})
    begin = time.monotonic()
    app.close()
    assert 0.3 <= time.monotonic() - begin < under_load(1.3)
    assert [record.getMessage().split(": ", 1)[1]
            for record in caplog.records] == ["the module's stop has not returned after 0.3 s, and is ended"]
    caplog.clear()


async def farewell_later(payload: bytes) -> bytes:
    await asyncio.sleep(0.01)
    return b"good" + payload


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("farewell", [lambda payload: b"good" + payload, farewell_later])
def test_a_stop_may_call_the_host(model: str, farewell: Any) -> None:
    app, said = run(model, "call", handlers={"farewell": farewell})
    app.close()
    assert said.getvalue() == b"init\nstart\nstop\ngoodbye <nil>\n"


@pytest.mark.parametrize("model", MODELS)
def test_a_start_may_call_the_host(model: str) -> None:
    asked: list[bytes] = []
    app, _said = run(model, "ask", handlers={"may": asked.append})
    assert asked == [b""]
    app.close()
    with pytest.raises(gothreads.GuestPanic, match="may not start: handler may: the host has no such handler"):
        run(model, "ask")


@pytest.mark.parametrize("model", ["threaded", "single", "idle"])
def test_a_module_that_has_ended_is_not_told_to_stop(model: str) -> None:
    app, said = run(model)
    with pytest.raises(gothreads.GuestPanic):
        app.exports.crash()
    app.close()
    assert said.getvalue() == b"init\nstart\n"


@pytest.mark.parametrize("model", MODELS)
def test_close_from_many_threads_calls_stop_once(model: str) -> None:
    app, said = run(model)
    threads = [threading.Thread(target=app.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert app.state is gothreads.State.CLOSED
    assert said.getvalue().count(b"stop") <= 1


@pytest.mark.parametrize("model", ["single", "idle", "pool"])
def test_a_stop_whose_turn_does_not_come_is_given_up(model: str, monkeypatch: pytest.MonkeyPatch,
                                                     caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(app_module, "HOOK_SECONDS", 0.3)
    asked = threading.Event()

    def never(_payload: bytes) -> Future[bytes]:
        asked.set()
        return Future()
    app, said = run(model, handlers={"never": never})
    call = app.submit_request("call", "never")
    assert asked.wait(PATIENCE)
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(1.3)
    assert isinstance(call.exception(under_load(1)), gothreads.AppClosed)
    assert said.getvalue() == b"init\nstart\n"
    assert len(caplog.records) == (model != "pool")  # a pool skips instances that are in use
    caplog.clear()


def test_python_ends_without_close_and_stop_is_called() -> None:
    done = subprocess.run([sys.executable, "-c", f"""if True:
        import gothreads
        app = gothreads.open({str(built("hooks"))!r})
        print(app.submit("count").result(), flush=True)
    """], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["init", "start", "1", "stop"]


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "gothreads", *args]


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_call_runs_the_hooks(model: str) -> None:
    module = str(built("hooks", model="threaded" if model == "threaded" else "single"))
    options = ["--instances", "1"] if model == "pool" else []
    done = subprocess.run(command("call", "--model", model, *options, module, "count"), capture_output=True, text=True,
                          timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert [line for line in done.stderr.split() if line in ("init", "start", "stop")] == ["init", "start", "stop"]


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_run_runs_the_hooks(number: int, code: int) -> None:
    with subprocess.Popen(command("run", "--listen", "127.0.0.1:0", str(built("hooks"))), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = re.search(r"(127\.0\.0\.1:\d+) yet: until it does, connections wait$", process.stderr.readline())
        assert address is not None  # it is open, and does not listen
        assert "main only waits" in process.stderr.readline()
        process.send_signal(number)
        out, errors = process.communicate(timeout=PATIENCE)
    assert (out, errors, process.returncode) == ("init\nstart\nstop\n", "", code)


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_serve_runs_the_hooks(model: str) -> None:
    module = str(built("hooks", model="threaded" if model == "threaded" else "single"))
    options = ["--instances", "1"] if model == "pool" else []
    with subprocess.Popen(command("serve", "--port", "0", "--model", model, *options, module), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving" in line)
        address = next(word for word in line.split() if word.startswith("http://"))
        request = urllib.request.Request(f"{address}/api/call/count", data=b'{"args": []}',
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            assert reply.read() == b'{"result":1}'
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("init\nstart\nstop\n", 0), errors


def test_a_start_that_hangs_ends_with_ctrl_c() -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
        import gothreads, os, signal
        from concurrent.futures import Future
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def may(payload):
            print("asked", flush=True)
            return Future()
        try:
            gothreads.open({str(built("hooks"))!r}, handlers={{"may": may}}, env={{"FAIL": "ask"}}, stdout=open(os.devnull, "w"))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("interrupted\n", 0), errors
    assert time.monotonic() - begin < under_load(2)


def test_close_in_a_handler_runs_the_hook_and_on_the_loop_of_the_app_does_not() -> None:
    def function(_payload: bytes) -> None:
        app.close()

    async def coroutine(_payload: bytes) -> None:
        app.close()
    for handler, last in ((function, "stop"), (coroutine, "start")):
        app, said = run("threaded", handlers={"close": handler})
        with raises_within(gothreads.AppClosed, 5):
            app.submit_request("call", "close").result(PATIENCE)
        wait_until(lambda: app.state is gothreads.State.CLOSED)  # noqa: B023
        assert said.getvalue().decode().split()[-1] == last
        app.close()

