"""Stopping an app from outside, whatever runs in it: close(), the end of the interpreter, SIGTERM, Ctrl-C.

The cases come from stress/stopping.py, which repeats them. Each runs in a Python process of its own.
"""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from stress import stopping
from tests.support.waiting import PATIENCE, under_load, wait_until

#: The cases to run here: all of the threaded model, one of each other model, and (DEV) one under `python -X dev`. The
#: stress test runs the rest.
HERE = [(case, ()) for case in stopping.CASES
        if case.model == "threaded"
        or case.name in ("Ctrl-C, in a call, single", "close, idle", "the interpreter ends without close, pool")]
DEV = [(case, ("-X", "dev")) for case in stopping.CASES if case.name == "the interpreter ends without close, threaded"]
#: What is not `long`: one case of each kind of end.
SHORT = ("close, ", "the interpreter ends without close, ", "Ctrl-C, in a call: spin", "close while the module dies")


@pytest.mark.parametrize(("case", "options"),
                         [pytest.param(case, options, id=" ".join([case.name, *options]),
                                       marks=[] if case.name.startswith(SHORT) else [pytest.mark.long])
                          for case, options in [*HERE, *DEV]])
def test_an_app_ends_at_once_and_python_as_it_should(case: stopping.Case, options: tuple[str, ...]) -> None:
    done = stopping.run(case, stopping.built(case), *options)
    assert done.wrong == ""


@pytest.mark.long
def test_a_finding_is_one(calls: Path) -> None:
    def wrong(body: str, **options: Any) -> str:
        return stopping.run(stopping.Case("", body, **options), str(calls)).wrong
    prints = "ready(); "
    assert wrong(prints) == ""
    assert wrong(prints + "time.sleep(0.6)").startswith("took 0.")
    assert wrong(prints + "os.kill(os.getpid(), signal.SIGSEGV)").startswith("the process ended with -11")
    assert "ValueError: x" in wrong(prints + "raise ValueError('x')")
    assert "oh" in wrong(prints + "print('oh', file=sys.stderr)")
    assert wrong(prints + "os._exit(0)") == "the process has not ended properly"
    assert wrong("print('no')", send=signal.SIGINT).startswith("hangs")


def in_flight(app: gothreads.App) -> list[Future[Any]]:
    """Make calls that would never end: blocked, asleep, running."""
    futures = [app.submit("hang") for _ in range(20)] + [app.submit("sleep", 3_600_000)
                                                         for _ in range(5)] + [app.submit("spin")]
    wait_until(lambda: app.statistics().callers.in_use >= len(futures))  # type: ignore[union-attr]
    return futures


def test_callers_that_wait_for_a_slot_get_the_cause_too(calls: Path) -> None:
    with gothreads.open(calls, callers=2) as app:
        blocked = [app.submit("hang") for _ in range(2)]
        errors: list[BaseException] = []

        def call() -> None:
            try:
                app.exports.add(1, 1)
            except gothreads.GothreadsError as error:
                errors.append(error)
        threads = [threading.Thread(target=call) for _ in range(3)]
        wait_until(lambda: app.statistics().callers.in_use == 2)  # type: ignore[union-attr]
        for thread in threads:
            thread.start()
        wait_until(lambda: app.statistics().callers.waiting == 3)  # type: ignore[union-attr]
        app.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert [type(error) for error in errors] == [gothreads.AppClosed] * 3
        assert all(isinstance(future.exception(PATIENCE), gothreads.AppClosed) for future in blocked)


def test_close_ends_everything_at_once(app: gothreads.App) -> None:
    futures = in_flight(app)
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(0.5)
    assert all(isinstance(future.exception(under_load(1)), gothreads.AppClosed) for future in futures)
    assert app.state is gothreads.State.CLOSED
    app.close()
    with pytest.raises(gothreads.AppClosed, match="was closed"):
        app.exports.add(1, 2)
    with pytest.raises(gothreads.AppClosed):
        app.submit("add", 1, 2).result()
