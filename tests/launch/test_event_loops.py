"""Event loops of others: gevent and eventlet, which replace parts of Python; uvloop; trio."""

from __future__ import annotations

import pytest

from tests.support.interrupted_program import python
from tests.support.modules import built

_PATCH_ALL = {"gevent": "import gevent.monkey; gevent.monkey.patch_all()",
              "eventlet": "import eventlet; eventlet.monkey_patch()"}
_PATCH_SOME = {"gevent": "import gevent.monkey; gevent.monkey.patch_all(thread=False, queue=False, select=False, "
                         "time=False)",
               "eventlet": "import eventlet; eventlet.monkey_patch(os=False, select=False, thread=False, time=False)"}
_POOL = {"gevent": "gevent.get_hub().threadpool.apply",
         "eventlet": "lambda call, args: eventlet.tpool.execute(call, *args)"}


@pytest.mark.long
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
@pytest.mark.parametrize("first", [True, False])
def test_where_threads_are_replaced_open_says_so(library: str, first: bool) -> None:
    """It used to wait for ever, for threads that were greenlets."""
    patch, load = _PATCH_ALL[library], "import gothreads"
    assert python(f"""
        import faulthandler, warnings
        faulthandler.dump_traceback_later(110, exit=True)
        warnings.simplefilter("ignore")
        for name in [name for name in sys.modules if name.startswith("gothreads")]:
            del sys.modules[name]
        {patch if first else load}
        {load if first else patch}
        for call in (gothreads.open, gothreads.supervise):
            try:
                call(sys.argv[1])
            except gothreads.MisuseError as error:
                text = str(error)
                print("start_new_thread" in text, "time.sleep" in text, "thread=False" in text)
    """, built("calls")) == "True True True\n" * 2


@pytest.mark.long
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_where_the_rest_is_replaced_calls_run_on_the_librarys_threads(library: str) -> None:
    """And greenlets go on meanwhile."""
    assert python(f"""
        import faulthandler, warnings
        faulthandler.dump_traceback_later(110, exit=True)
        warnings.simplefilter("ignore")
        {_PATCH_SOME[library]}
        import {library}
        {"import eventlet.tpool" if library == "eventlet" else ""}
        on_a_thread = {_POOL[library]}
        ticks = []
        def tick():
            while True:
                ticks.append(1)
                {library}.sleep(0.01)
        {library}.spawn(tick)
        with gothreads.open(sys.argv[1]) as app:
            print(on_a_thread(app.exports.add, (1, 2)))
            before = len(ticks)
            on_a_thread(app.exports.sleep, (300,))
            print(len(ticks) - before > 3)
            try:
                gothreads.open(sys.argv[1], allow_net=["127.0.0.1:1"])
            except gothreads.MisuseError as error:
                print("socket=False" in str(error))
        os._exit(0 if app.state is gothreads.State.CLOSED and not sys.stdout.flush() else 1)
    """, built("calls")) == "3\nTrue\nTrue\n"


def test_uvloop_runs_calls_events_and_handlers() -> None:
    assert python("""
        import asyncio, uvloop
        async def main():
            with gothreads.open(sys.argv[1], loop=asyncio.get_running_loop()) as app:
                print(await asyncio.gather(*[app.call_async("add", n, 1) for n in range(20)]) == list(range(1, 21)))
                try:
                    await app.call_async("sleep", 60_000, timeout=0.1)
                except gothreads.CallTimeout:
                    print("timeout")
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGUSR1, print, "signal")
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.sleep(0.1)
                print(app.exports.add(1, 2))
        uvloop.run(main())
    """, built("calls")) == "True\ntimeout\nsignal\n3\n"


def test_uvloop_runs_coroutines_that_are_handlers() -> None:
    assert python("""
        import asyncio, uvloop
        ran = []
        async def answer(payload):
            ran.append(type(asyncio.get_running_loop()).__module__)
            return payload * 2
        async def main():
            app = gothreads.open(sys.argv[1], loop=asyncio.get_running_loop(), handlers={"answer": answer})
            reply = await app.request_async("call", b"answer now", timeout=20)
            await app.close_async()
            return reply
        reply = uvloop.run(main())
        print(ran, reply)
    """, built("talk")) == "['uvloop'] b'nownow'\n"


def test_trio_runs_calls_on_its_threads() -> None:
    assert python("""
        import trio
        async def main():
            with gothreads.open(sys.argv[1]) as app:
                answers = {}
                async def call(n):
                    answers[n] = await trio.to_thread.run_sync(app.exports.add, n, 1)
                with trio.fail_after(60):
                    async with trio.open_nursery() as nursery:
                        for n in range(20):
                            nursery.start_soon(call, n)
                        nursery.start_soon(trio.to_thread.run_sync, app.exports.sleep, 100)
                print(answers == {n: n + 1 for n in range(20)}, app.exports.add(1, 2))
                kill(0.1)  # trio's own handler
                await trio.sleep(30)
        try:
            trio.run(main)
        except KeyboardInterrupt:
            print("interrupted")
    """, built("calls")) == "True 3\ninterrupted\n"
