"""Handlers of guest.Call that themselves call the app's exports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

import gothreads
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The program's own event loop, running on a thread."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.mark.parametrize("handler", ["plain", "later", "on another loop"])
def test_a_handler_calls_exports_though_every_caller_waits_for_it(handler: str,
                                                                  loop: asyncio.AbstractEventLoop) -> None:
    """Both callers are in calls that wait for a handler, and both handlers run before the first one calls back."""
    both = threading.Barrier(2)

    def plain(payload: bytes, context: gothreads.Context) -> str:
        both.wait()
        return f"{context.app.exports.ticked()} {context.app.submit('ticked').result()}"

    async def later(payload: bytes, context: gothreads.Context) -> str:
        return f"{await context.app.call_async('ticked')} {context.app.exports.ticked()}"

    async def together(payload: bytes, context: gothreads.Context) -> str:
        waiting.append(asyncio.Event())
        if len(waiting) % 2:
            await waiting[-1].wait()
        else:
            waiting[-2].set()
        return await later(payload, context)

    waiting: list[asyncio.Event] = []
    with gothreads.open(built("talk"), callers=2, handlers={"plain": plain, "later": together},
                        loop=loop if handler == "on another loop" else None) as app:
        for _ in range(10):
            calls = [app.submit_request("call", f"{'plain' if handler == 'plain' else 'later'} x") for _ in range(2)]
            assert [call.result(PATIENCE) for call in calls] == [b"0 0", b"0 0"]
        callers = app.statistics().callers
        assert callers is not None
        assert callers.total <= 2  # callers beyond the limit have been released


def test_plain_handlers_call_each_other_deeper_than_there_are_callers() -> None:
    def down(payload: bytes, context: gothreads.Context) -> bytes:
        return context.app.request("call", f"down {int(payload) - 1}") if int(payload) else b"bottom"

    with gothreads.open(built("talk"), callers=2, handlers={"down": down}) as app:
        calls = [app.submit_request("call", "down 10") for _ in range(2)]
        assert [call.result(PATIENCE) for call in calls] == [b"bottom", b"bottom"]
        # Two for calls, two for handlers and one for the inspector: threads beyond the limits have ended.
        wait_until(lambda: sum(thread.name == "gothreads-call" for thread in threading.enumerate()) <= 5)


def test_in_a_pool_it_calls_another_instance() -> None:
    def plain(payload: bytes, context: gothreads.Context) -> str:
        return str(context.app.exports.ticked())

    with gothreads.open(built("talk", model="single"), model="pool", instances=2, handlers={"plain": plain}) as app:
        assert app.request("call", "plain x") == b"0"


@pytest.mark.parametrize("model", ["single", "idle"])
def test_on_one_thread_it_waits_for_the_call_that_waits_for_it_until_the_app_is_closed(model: str) -> None:
    entered = threading.Event()

    def plain(payload: bytes, context: gothreads.Context) -> str:
        entered.set()
        return str(context.app.exports.ticked())

    app = gothreads.open(built("talk", model="single"), model=model, handlers={"plain": plain})
    call = app.submit_request("call", "plain x")
    assert entered.wait(PATIENCE)
    assert not wait((call,), 0.1).done
    app.close()
    with pytest.raises(gothreads.AppClosed):
        call.result(PATIENCE)
