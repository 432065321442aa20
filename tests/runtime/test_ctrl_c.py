"""Ctrl-C at awkward moments: it ends the main thread's call, and the app closes all the same."""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any

import gothreads
from gothreads.runtime.lifecycle import Lifecycle
from tests.support.interrupted_program import python
from tests.support.modules import built, opened


def test_ctrl_c_ends_a_call_that_calls_back_and_forth_without_end() -> None:
    """No call lasts long, except the outermost."""
    assert python("""
        import faulthandler
        faulthandler.dump_traceback_later(110, exit=True)
        pressed = []
        def again(n: int) -> int:
            if not pressed:
                pressed.append(kill(0.1))
            return app.exports.add(n, 1)
        app = gothreads.open(sys.argv[1], model="single", host={"env": {"started": lambda: None, "again": again}})
        try:
            app.exports.loop()
        except KeyboardInterrupt as error:
            print("interrupted", type(error.__context__).__name__, error.__suppress_context__)
        app.close()
        print(app.state.value)
    """, built("nested", model="single")) == "interrupted AppClosed True\nclosed\n"


def test_ctrl_c_ends_a_call_after_asyncio_has_had_signal_handlers_of_its_own() -> None:
    assert python("""
        import asyncio, faulthandler
        faulthandler.dump_traceback_later(110, exit=True)
        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
            await first.call_async("add", 1, 2)
        with gothreads.open(sys.argv[1]) as first:
            asyncio.run(main())
        with gothreads.open(sys.argv[1]) as app:
            kill(0.3)
            try:
                app.exports.hang()
            except KeyboardInterrupt:
                print("interrupted")
    """, built("calls")) == "interrupted\n"


def test_ctrl_c_ends_a_call_to_an_app_that_another_thread_has_opened() -> None:
    assert python("""
        import faulthandler
        faulthandler.dump_traceback_later(110, exit=True)
        apps = []
        opening = threading.Thread(target=lambda: apps.append(gothreads.open(sys.argv[1])))
        opening.start()
        opening.join()
        kill(0.3)
        try:
            apps[0].exports.hang()
        except KeyboardInterrupt:
            print("interrupted")
        apps[0].close()
    """, built("calls")) == "interrupted\n"


def test_ctrl_c_while_a_thread_is_started_leaves_no_place_without_one() -> None:
    assert python("""
        real = threading.Thread.__init__
        def init(thread, *arguments, **options):
            if options.get("name") == "gothreads-call":
                threading.Thread.__init__ = real
                os.kill(os.getpid(), signal.SIGINT)
            real(thread, *arguments, **options)
        with gothreads.open(sys.argv[1], callers=1) as app:
            threading.Thread.__init__ = init
            try:
                app.submit("add", 1, 2)
            except KeyboardInterrupt:
                print("interrupted")
            print(app.submit("add", 3, 4).result(60))
    """, built("calls")) == "interrupted\n7\n"


def test_ctrl_c_at_any_line_of_the_end_leaves_an_app_that_closes() -> None:
    """Except lines where Python handles no signals: just before a lock is released, and at the start of `finally`."""
    code = Lifecycle._end.__code__
    source, begin = inspect.getsourcelines(Lifecycle._end)
    final = range(begin + next(n for n, line in enumerate(source) if "finally:" in line), begin + len(source) - 1)
    place, lines = 0, set[int]()

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        return each if frame.f_code is code else None

    def each(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and frame.f_lineno not in lines and frame.f_lineno not in final:
            lines.add(frame.f_lineno)
            if len(lines) == place:
                raise KeyboardInterrupt
        return each
    while len(lines) == place:
        place += 1
        lines.clear()
        app = opened("calls", "single")
        sys.settrace(trace)
        try:
            app.close()
        except KeyboardInterrupt:
            assert len(lines) == place
        finally:
            sys.settrace(None)
        app.close()
        assert app.state is gothreads.State.CLOSED, f"interrupted at line {place}"
    assert place > 8
