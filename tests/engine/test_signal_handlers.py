"""Python's signal handlers while the main thread is in a call: they run at once, and what they raise reaches the caller
as it is.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap

import pytest

from tests.support.modules import MODELS, built
from tests.support.waiting import PATIENCE

_HEAD = """
    import faulthandler, os, signal, sys, threading, time
    faulthandler.dump_traceback_later(110, exit=True)
    import gothreads

    class Late(Exception):
        pass

    def late(number, frame):
        raise Late(number)

    def calls_come_back():
        "A call that comes back is not given up because other programs keep the processors busy."
        from gothreads.engine import interrupt
        interrupt._PAUSES += (0.1,) * 300

    def alarm(seconds, handler=late, repeat=0.0):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds, repeat)

    class Nowhere:
        def write(self, data):
            return len(data)

    def opened(**options):
        model = sys.argv[2]
        # Trusted: so the flag stops optimized code that the main thread calls.
        return gothreads.open(sys.argv[1], trust=True, model=model, **({"instances": 1} if model == "pool" else {}),
                              **options)

    def caught(call, *args):
        "What it has raised, and after how many seconds."
        begin = time.monotonic()
        try:
            call(*args)
        except BaseException as error:
            return type(error), time.monotonic() - begin
        raise AssertionError("it has returned")
"""


def run(model: str, code: str, module: str = "calls", code_of_exit: int = 0, fast: str | None = None) -> None:
    """In a process of its own, after the lines above."""
    environment = os.environ | ({} if fast is None else {"GOTHREADS_FAST": fast})
    path = built(module, model="threaded" if model == "threaded" else "single")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(_HEAD) + textwrap.dedent(code), str(path), model],
                          env=environment,
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code_of_exit, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_what_a_handler_raises_is_raised_when_the_call_has_come_back(model: str) -> None:
    run(model, """
        calls_come_back()
        with opened(stdout=Nowhere()) as app:
            app.exports.add(1, 2)
            alarm(0.05)
            kind, seconds = caught(app.exports.sleep, 150)
            assert kind is Late and seconds > 0.14, (kind, seconds)
            alarm(0.05)
            def write():
                while True:
                    app.exports.write("a line\\n", 3)
            assert caught(write)[0] is Late
            assert app.exports.add(1, 2) == 3
    """)


@pytest.mark.long
@pytest.mark.parametrize(("model", "call"),
                         [("threaded", "hang()"), *itertools.product(MODELS, ["sleep(60000)", "spin()"])])
def test_a_call_that_does_not_come_back_is_given_up(model: str, call: str) -> None:
    run(model, f"""
        with opened() as app:
            alarm(0.1)
            kind, seconds = caught(lambda: app.exports.{call})
            assert kind is Late and seconds < 5, (kind, seconds)
            if app.model == "pool":  # another instance takes its place
                assert app.exports.add(1, 2) == 3
            else:
                assert caught(app.exports.add, 1, 2)[0] is gothreads.LimitExceeded
                assert "raised Late" in str(app.error), app.error
    """)


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fast", ["0", "1"])
def test_handlers_that_raise_at_any_moment_lose_no_app(model: str, fast: str) -> None:
    run(model, """
        calls_come_back()
        wrote = raised = 0
        with opened(stdout=Nowhere()) as app:
            app.exports.add(1, 2)
            until = time.monotonic() + 3
            while time.monotonic() < until or raised < 20:
                try:
                    alarm(0.0003 * (1 + raised % 9))
                    while True:
                        app.exports.write("a line\\n", 2)
                        wrote += 1
                        assert app.exports.add(wrote, 1) == wrote + 1
                        app.signal("event", b"x", full="drop")
                except Late:
                    raised += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert app.exports.add(1, 2) == 3
            assert app.error is None and app._in_flight() == 0
    """, fast=fast, module="calls")


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_a_handler_runs_while_the_call_goes_on(model: str) -> None:
    """Asleep, in a loop without host functions, and where the thread is parked."""
    run(model, """
        ran = []
        def note(number, frame):
            ran.append(time.monotonic())
        signal.signal(signal.SIGUSR1, note)
        with opened() as app:
            for call in (lambda: app.exports.sleep(1000), lambda: app.exports.fib(38)):
                ran.clear()
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                call()
                over = time.monotonic()
                assert len(ran) == 1 and over - ran[0] > 0.15, (ran, over)
    """)


@pytest.mark.long
def test_sigterm_that_exits_ends_a_program_that_is_in_a_call_for_ever() -> None:
    for model, call in (("threaded", "hang"), ("threaded", "spin"), ("single", "spin"), ("pool", "spin")):
        run(model, f"""
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
            with opened() as app:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
                app.exports.{call}()
        """, code_of_exit=9)


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_in_a_python_function_that_the_module_has_called_handlers_raise_as_anywhere(model: str) -> None:
    run(model, """
        def call_again(n: int) -> int:
            if n == 1:
                alarm(0.05)
                try:
                    time.sleep(60)
                except Late:
                    return 7
            if n == 2:
                alarm(0.05)
                time.sleep(60)
            if n == 3:
                alarm(0.1)  # for what follows in the call
            return n
        with opened(host={"env": {"call_again": call_again}}, stdout=Nowhere()) as app:
            assert app.exports.again(1) == 7
            assert app.exports.again(3) == 3
            kind, _ = caught(app.exports.sleep, 150)
            assert kind is Late
            assert app.exports.add(1, 2) == 3
            kind, seconds = caught(app.exports.again, 2)  # there is no answer for Go
            assert kind is Late and seconds < 5, (kind, seconds)
            if app.model == "pool":
                assert app.exports.add(1, 2) == 3
            else:
                assert type(app.error) is gothreads.LimitExceeded
    """, "patient")


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_a_handler_cannot_call_the_module_that_it_has_interrupted(model: str) -> None:
    run(model, """
        with opened() as app:
            alarm(0.05, lambda *_: app.exports.add(1, 2))
            assert caught(app.exports.sleep, 150)[0] is gothreads.MisuseError
            futures = []
            alarm(0.05, lambda *_: futures.append(app.submit("add", 3, 4)))
            app.exports.sleep(150)
            assert futures[0].result(60) == 7
    """)


def test_handlers_of_asyncio_run_when_the_call_is_over() -> None:
    run("threaded", """
        import asyncio
        async def main():
            told = []
            asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, told.append, 1)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            app.exports.sleep(150)
            assert not told
            await asyncio.sleep(0.05)
            assert told == [1]
        with opened() as app:
            asyncio.run(main())
            assert app.exports.add(1, 2) == 3
    """)


def test_a_call_is_given_up_where_asyncio_has_the_wakeup_descriptor() -> None:
    run("threaded", """
        import asyncio
        async def main():
            told = []
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.append, 1)
            until = time.monotonic() + 0.2
            while time.monotonic() < until:  # it is seen that the descriptor is not ours
                app.exports.add(1, 2)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.05)
            assert told == [1]
            alarm(0.1)
            app.exports.hang()
        with opened() as app:
            assert caught(asyncio.run, main())[0] is Late
    """)


def test_a_supervised_module_is_opened_again_when_a_handler_has_ended_its_call() -> None:
    run("threaded", """
        with gothreads.supervise(sys.argv[1], backoff=gothreads.Backoff(first=0.01)) as app:
            alarm(0.1)
            assert caught(app.exports.hang)[0] is Late
            assert app.exports.add(1, 2) == 3
    """)


def test_a_handler_that_is_held_keeps_its_system_calls_going_on() -> None:
    run("single", """
        from gothreads.engine import interrupt
        signal.signal(signal.SIGUSR1, late)
        signal.siginterrupt(signal.SIGUSR1, False)
        signal.signal(signal.SIGUSR2, late)
        with opened() as app:
            app.exports.add(1, 2)
            assert isinstance(signal.getsignal(signal.SIGUSR1), interrupt.Held)
            assert interrupt._restarts(signal.SIGUSR1) and not interrupt._restarts(signal.SIGUSR2)
    """)


def test_a_handler_may_close_the_app_while_the_memory_is_read() -> None:
    """The watcher wakes the module's threads, for which it needs the memory's lock. It holds no lock that close()
    needs.
    """
    run("threaded", """
        signal.signal(signal.SIGALRM, lambda *_: None)

        def call_again(n: int, context: gothreads.Context) -> int:
            with context.memory._use:  # as in a read, which a handler may interrupt
                signal.raise_signal(signal.SIGALRM)
                time.sleep(0.1)  # the watcher begins
                context.app.close()
            return n

        app = opened(host={"env": {"call_again": call_again}})
        assert caught(app.exports.again, 1)[0] is gothreads.AppClosed
        app.close()
    """, "patient")
