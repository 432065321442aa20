"""The first calls after open find what main registers, however late (runtime/settling.py; tests/modules/prepares)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.cli.main import main
from gothreads.runtime import settling
from gothreads.runtime.cancellation import CallGivenUp
from gothreads.serve.web import web_app
from tests.support.interrupted_program import python
from tests.support.modules import built, opened
from tests.support.waiting import PATIENCE, raises_within, together, wait_until

pytestmark = pytest.mark.usefixtures("nothing_left")

#: What main does before it registers handlers.
BEFORE = ["", "compute", "collect", "together", "print", "sleep", "call"]
STOCK = ["single", "idle", "pool"]


def answers_slowly(_payload: bytes) -> None:
    time.sleep(0.01)


def prepares(before: str = "", model: str = "threaded", **options: Any) -> gothreads.App:
    ask = options.pop("ask", lambda: None)
    return opened("prepares", model, env={"BEFORE": before}, stdout=io.BytesIO(), stderr=io.BytesIO(),
                  handlers={"config": answers_slowly}, host={"env": {"ask": ask}}, **options)


@contextlib.contextmanager
def never_at_rest(monkeypatch: pytest.MonkeyPatch, seconds: float, **options: Any) -> Iterator[gothreads.App]:
    """Open an app whose main never waits; calls wait for it for at most that many seconds."""
    monkeypatch.setattr(settling, "SETTLE_SECONDS", seconds)
    with prepares("spin", **options) as app:
        yield app


WAYS: dict[str, Callable[[Any], bytes]] = {
    "request": lambda app: app.request("upper", b"x"),
    "request with a timeout": lambda app: app.request("upper", "x", timeout=30),
    "submit_request": lambda app: app.submit_request("upper", "x").result(),
    "request_async": lambda app: asyncio.run(app.request_async("upper", "x")),
    "handlers": lambda app: b"X" if app.handlers() == ["early", "upper"] else b"",
    "handlers_async": lambda app: b"X" if asyncio.run(app.handlers_async()) == ["early", "upper"] else b"",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_handler_that_main_registers_is_there_for_the_first_request(before: str, way: str) -> None:
    with prepares(before, procs=2) as app:
        assert WAYS[way](app) == b"X"


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_there_where_races_are_sharpened(seed: int) -> None:
    path = built("prepares", sharpen=seed)
    for number in range(2 * len(BEFORE)):
        before = BEFORE[number % len(BEFORE)]
        with gothreads.open(path, procs=2, env={"BEFORE": before}, stdout=io.BytesIO(),
                            handlers={"config": answers_slowly}, host={"env": {"ask": lambda: None}}) as app:
            assert together(*[lambda: app.request("upper", b"x")] * 4) == [b"X"] * 4, before


def test_it_is_there_for_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    host = tmp_path / "host.py"
    host.write_text("import gothreads\nhost = gothreads.Host()\n\n@host.function('env')\ndef ask() -> None: ...\n")
    command = ["call", str(built("prepares")), "--python", str(host), "--env", "BEFORE=compute"]
    assert main([*command, "upper", "x"]) == 0
    assert capsys.readouterr().out.strip() == "X"
    assert main([*command, "nope", "x"]) == 1
    assert "no export or handler 'nope'; it has: crash, spin, early, upper" in capsys.readouterr().err


def test_it_is_there_over_http_and_so_are_events() -> None:
    httpx = pytest.importorskip("httpx")

    async def conversation(app: gothreads.App) -> tuple[int, bytes, int, int]:
        transport = httpx.ASGITransport(web_app(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            sent = await client.post("/api/signal/more", content="x")
            answered = await client.post("/api/request/upper", content="x")
            unknown = [await client.post(f"/api/{what}/nope") for what in ("signal", "request")]
            return sent.status_code, answered.content, unknown[0].status_code, unknown[1].status_code
    with prepares("compute") as app:
        assert asyncio.run(conversation(app)) == (202, b"X", 404, 404)


def test_a_timeout_before_main_has_registered_the_handler_says_that_the_call_never_began(
        monkeypatch: pytest.MonkeyPatch) -> None:
    with never_at_rest(monkeypatch, PATIENCE) as app:
        for future in (app.submit_request("late", timeout=0.1), app.submit_request("late", b"x", timeout=0.1)):
            with pytest.raises(gothreads.CallTimeout, match=r"the request to late has not begun within 0\.1 s: main has "
                                                            r"not registered the handler late yet$"):
                future.result()


def test_a_known_name_is_not_looked_at_twice_and_an_unknown_one_once() -> None:
    looks = []

    def looked(timeout: float) -> tuple[Iterable[str], bool]:
        looks.append(timeout)
        return look(timeout)
    with prepares() as app:
        assert app._settling is not None
        look, app._settling._look = app._settling._look, looked
        assert app.request("early", b"x") == b"X"
        assert looks == []
        with pytest.raises(gothreads.UnknownExport, match="no handler 'nope'; it has: early, upper$"):
            app.request("nope")
        looks.clear()
        for _ in range(3):
            with pytest.raises(gothreads.UnknownExport):
                app.request("nope")
        assert looks == []


def test_a_main_that_waits_is_not_called_busy_though_nobody_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0)
    with prepares() as app:
        wait_until(lambda: "upper" in app.handlers())
        wait_until(lambda: all(g.state != "running" for g in app.goroutines()))
        monkeypatch.setattr(settling, "_LOOK_AGAIN_SECONDS", 0)
        wait_until(lambda: app._settling is not None and not app._settling.is_busy())
        with pytest.raises(gothreads.UnknownExport, match="no handler 'nope'; it has: early, upper$"):
            app.request("nope")


def test_a_main_that_waits_for_events_is_not_called_busy_though_its_goroutines_run(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(settling, "_LOOK_AGAIN_SECONDS", float("inf"))  # nobody sees it at rest
    with prepares() as app:
        wait_until(lambda: any(g.id == 1 and g.state.startswith(("select", "chan receive")) for g in app.goroutines()))
        assert app._settling is not None
        assert app._settling.is_busy()
        with pytest.raises(gothreads.UnknownExport, match="no handler 'nope'; it has: early, upper$"):
            app.request("nope")


def test_who_asks_is_told_at_once_when_main_waits_though_callers_are_busy() -> None:
    with prepares() as app:
        busy = app.submit("spin")
        with raises_within(gothreads.UnknownExport, settling.SETTLE_SECONDS / 2):
            app.request("nope")
        assert not busy.done()


def test_a_main_that_never_waits_is_waited_for_so_long_and_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_LOOK_AGAIN_SECONDS", 60)  # a look may take as long as the wait that is none
    with never_at_rest(monkeypatch, 0.5) as app:
        with pytest.raises(gothreads.UnknownExport, match=r"it has: early\. .* still busy"):
            app.request("upper")
        assert app.request("early", b"x") == b"X"
        for _ in range(2):  # also those that come later, as long as main is busy
            with pytest.raises(gothreads.UnknownExport, match=r"it has: early\. .* still busy"):
                app.request("upper")
        with raises_within(gothreads.UnknownExport, 0.4):
            app.request("upper")
        assert app.handlers() == ["early"]


def test_a_timeout_and_being_cancelled_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with never_at_rest(monkeypatch, 60, callers=2) as app:
        for _ in range(4):  # more than there are workers: each becomes free again
            with raises_within(gothreads.CallTimeout, 5):
                app.request("upper", timeout=0.05)
            with raises_within(gothreads.CallTimeout, 5):
                app.submit_request("upper", timeout=0.05).result()
            with raises_within(TimeoutError, 5):
                asyncio.run(asyncio.wait_for(app.request_async("upper"), 0.05))
            with raises_within(TimeoutError, 5):
                asyncio.run(asyncio.wait_for(app.handlers_async(), 0.05))
            future = app.submit_request("upper")
            assert future.cancel()
            with pytest.raises(CancelledError):
                future.result()
        wait_until(lambda: app._call_threads.pending == 0)


@pytest.mark.parametrize(("end", "error"), [("close", gothreads.AppClosed), ("crash", gothreads.GuestPanic)])
def test_the_apps_end_ends_the_wait(end: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    with never_at_rest(monkeypatch, 60) as app:
        waiting = [app.submit_request("upper"), app.submit_request("nope", timeout=30)]
        told: Future[BaseException | None] = Future()

        def here() -> None:
            try:
                app.request("upper")
            except BaseException as raised:
                told.set_result(raised)
        thread = threading.Thread(target=here)
        thread.start()
        wait_until(lambda: app._settling is not None and app._settling._looked)
        with contextlib.suppress(gothreads.GuestPanic):
            app.close() if end == "close" else app.exports.crash()
        assert isinstance(told.result(PATIENCE), error)
        assert [type(future.exception(PATIENCE)) for future in waiting] == [error] * 2
        thread.join()


@pytest.mark.long
def test_ctrl_c_ends_the_wait_and_not_the_app() -> None:
    assert python("""
        import faulthandler
        faulthandler.dump_traceback_later(110, exit=True)
        from gothreads.runtime import settling
        settling.SETTLE_SECONDS = 50
        with gothreads.open(sys.argv[1], env={"BEFORE": "spin"}, host={"env": {"ask": lambda: None}}) as app:
            for ask in (lambda: app.request("upper"), lambda: app.request("upper", timeout=40), app.handlers):
                kill(0.5)
                try:
                    ask()
                except KeyboardInterrupt:
                    print(app.request("early", b"x"), app.state.value)
    """, built("prepares")) == "b'X' running\n" * 3


def test_a_host_function_of_mains_asks_in_vain_for_what_main_registers_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.5)
    found: list[object] = []

    def ask(context: gothreads.Context) -> None:
        found.append(context.app.request("early", b"x"))
        try:
            context.app.request("upper", b"x")
        except gothreads.UnknownExport as error:
            found.append(error)
    with prepares("ask", ask=ask) as app:
        wait_until(lambda: "upper" in app.handlers())
        assert found[0] == b"X"
        assert isinstance(found[1], gothreads.UnknownExport)
        assert app.request("upper", b"x") == b"X"


@pytest.mark.parametrize("model", ["threaded", *STOCK])
def test_what_an_inits_goroutine_registers_is_there_in_every_instance(model: str) -> None:
    with prepares("goroutine", model, **({"instances": 2} if model == "pool" else {})) as app:
        assert together(*[lambda: app.request("begun", b"x")] * 4) == [b"X"] * 4
        assert "begun" in app.handlers()
        with pytest.raises(gothreads.UnknownExport):
            app.request("nope")
        if model == "pool":
            for _ in range(3):  # the instance is replaced
                with pytest.raises(gothreads.GuestPanic):
                    app.exports.crash()
                assert app.request("begun", b"x", timeout=30) == b"X"
                assert app.submit_request("begun", b"x").result() == b"X"


@pytest.mark.parametrize("model", STOCK)
def test_where_main_does_not_run_an_unknown_handler_says_so(model: str) -> None:
    advice = f"it has: early. main does not run in the model {model}: register handlers in an init function"
    with prepares("", model, **({"instances": 1} if model == "pool" else {})) as app:
        for ask in (app.request, lambda name: app.request(name, timeout=30)):
            with pytest.raises(gothreads.UnknownExport) as caught:
                ask("upper")
            assert str(caught.value) == f"the module has no handler 'upper'; {advice}"
            assert caught.value.known == ("early",)


@pytest.mark.parametrize("model", STOCK)
def test_it_is_there_for_who_lists_or_waits_for_it_with_a_timeout(model: str) -> None:
    with prepares("goroutine", model, **({"instances": 1} if model == "pool" else {})) as app:
        assert "begun" in app.handlers()
    with prepares("goroutine", model, **({"instances": 1} if model == "pool" else {})) as app:
        assert app.request("begun", b"x", timeout=30) == b"X"


@pytest.mark.long
@pytest.mark.parametrize("before", ["compute", "timer"])
def test_a_replaced_instance_has_the_handlers_of_the_one_before(before: str) -> None:
    with gothreads.supervise(built("prepares"), env={"BEFORE": before}, stderr=io.BytesIO(),
                             host={"env": {"ask": lambda: None}}, backoff=gothreads.Backoff(first=0.01),
                             on_restart=lambda restart: None) as app:
        wait_until(lambda: "upper" in app.handlers())
        assert app.request("upper", b"x") == b"X"
        for way in WAYS.values():
            with pytest.raises(gothreads.GuestPanic):
                app.exports.crash()
            assert way(app) == b"X"


def test_a_stop_that_main_registers_is_called() -> None:
    said = io.BytesIO()
    for _ in range(10):
        with gothreads.open(built("prepares"), env={"BEFORE": "stop"}, stdout=said,
                            host={"env": {"ask": lambda: None}}) as app:
            assert app.request("upper", b"x") == b"X"
    assert said.getvalue() == b"stopped\n" * 10


# The rule itself (runtime/settling.py).

def test_an_answer_from_before_it_has_settled_is_not_believed() -> None:
    """The handler is registered between the answer and the look that finds the module at rest (runtime/settling.py)."""
    with prepares("sleep") as app:
        asked: list[bool] = []

        def ask() -> bytes:
            assert app._settling is not None
            asked.append(app._settling.settled("upper"))
            if len(asked) == 1:  # main registers and waits, and another call notices
                wait_until(lambda: "upper" in app.handlers())
                raise gothreads.UnknownExport("from before")
            return app._request("upper", b"x")
        assert app._registered_by_main("upper", lambda: app._here_or_on_a_worker(ask)) == b"X"
        assert asked == [False, True]


def test_looks_are_shared_and_end_with_who_waits() -> None:
    looks = 0

    def look(timeout: float) -> tuple[list[str], bool]:
        nonlocal looks
        looks += 1
        time.sleep(0.01)
        if looks % 2:
            raise TimeoutError
        return ["a"] if looks >= 4 else [], looks >= 10
    one = settling.Settling(look)
    one.begin()
    together(*[lambda: one.wait("a", None)] * 8)
    assert 4 <= looks < 8
    assert not one.settled("b")
    together(*[lambda: one.wait("b", None)] * 8)
    assert one.settled("b")
    assert looks == 10
    one.expected = frozenset({"c"})
    assert one.settled("b")
    assert not one.settled("c")
    assert not one.settled()

    class Ticket:
        given_up = True
    with pytest.raises(CallGivenUp):
        one.wait("c", Ticket())  # type: ignore[arg-type]
