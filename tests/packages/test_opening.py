"""How the module of a package is opened: at the first call, on a thread, and again after it has ended.

The module starts when its standard input says so: `proceed` writes a line to it, for each start.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gothreads.packages.stubs import write_package
from gothreads.runtime.module_file import load
from tests.packages.test_stubs import python
from tests.support.modules import built

HEAD = '''
import asyncio, logging, os, sys, threading, time
import gothreads

read, write = os.pipe()
os.dup2(read, 0)

def proceed(line=""):
    os.write(write, line.encode() + b"\\n")

def opening_threads():
    return [each for each in threading.enumerate() if each.name == "gothreads-open"]

def until(condition):
    while not condition():
        time.sleep(0.001)

def print(*values):
    sys.stdout.write(" ".join(map(str, values)) + "\\n")  # in one piece, since the module writes, too
    sys.stdout.flush()

def error_of(function, *args, **named):
    try:
        return function(*args, **named)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"

import gate
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    write_package(load(built("gate")), folder / "gate")
    return folder


def run(folder: Path, program: str, starts: int = 1) -> list[str]:
    """What a program prints, line by line. starts: how often the module must have been started."""
    done = python(folder, "-W", "error", "-c", HEAD + textwrap.dedent(program))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert (said.count("starts"), "ResourceWarning" in done.stderr) == (starts, False), done.stderr
    return [line for line in said if line != "starts"]


def test_the_event_loop_runs_on_while_the_module_is_opened(folder: Path) -> None:
    assert run(folder, """
        async def main():
            call = asyncio.ensure_future(gate.count_async())
            while not opening_threads():
                await asyncio.sleep(0)
            proceed()  # the module waits for this, so a loop that it blocks never gets here
            print(await call)
        asyncio.run(main())
    """) == ["1"]


def test_calls_of_all_kinds_wait_for_one_opening(folder: Path) -> None:
    assert run(folder, """
        results, threads = [], []
        for options in ({}, {"timeout": 60}) * 4:
            threads.append(threading.Thread(target=lambda options=options: results.append(gate.count(**options))))
        for each in threads:
            each.start()

        async def main():
            calls = [asyncio.ensure_future(gate.count_async(timeout=timeout)) for timeout in (None, 60) * 4]
            futures = [gate.count.submit() for _ in range(4)]
            await asyncio.sleep(0)
            proceed()
            results.extend(await asyncio.gather(*calls, *map(asyncio.wrap_future, futures)))
        asyncio.run(main())
        for each in threads:
            each.join()
        print(sorted(results) == list(range(1, 21)))
    """) == ["True"]


def test_a_timeout_covers_the_opening_which_goes_on(folder: Path) -> None:
    late = ("CallTimeout: gate: the call of count has not begun within 0.01 s: the module is being opened, which goes "
            "on, for later calls")
    assert run(folder, """
        print(error_of(gate.count, timeout=0.01))
        print(error_of(lambda: gate.count.submit(timeout=0.01).result()))
        print(error_of(asyncio.run, gate.count_async(timeout=0.01)))
        proceed()
        print(gate.count())
        print(error_of(gate.wait, timeout=0.01))
    """) == [
        late, late, late, "1", "CallTimeout: gate: the call of wait has not come back within 0.01 s; its context is "
        "cancelled"]


def test_what_is_left_of_a_timeout_is_for_the_call(folder: Path) -> None:
    assert run(folder, """
        proceed()
        proceed()
        for end in (lambda: gate.wait(timeout=5), lambda: gate.wait.submit(timeout=5).result()):
            said = error_of(end)
            print("has not come back" in said and 0 < float(said.split(" s;")[0].split()[-1]) < 5)
            error_of(gate.exit, 1)
    """, starts=2) == ["True", "True"]


def test_wrong_options_are_reported_before_anything_is_opened(folder: Path) -> None:
    wrong = "MisuseError: timeout must be a number of seconds of at least 0, not 'x'"
    assert run(folder, """
        print(error_of(gate.count, timeout="x"))
        print(error_of(gate.count.submit, timeout="x"))
        print(opening_threads())
    """, starts=0) == [wrong, wrong, "[]"]


def test_calls_that_are_cancelled_while_they_wait_are_not_made(folder: Path) -> None:
    assert run(folder, """
        async def main():
            call = asyncio.ensure_future(gate.count_async())
            await asyncio.sleep(0)
            call.cancel()
            print(type((await asyncio.gather(call, return_exceptions=True))[0]).__name__)
        asyncio.run(main())
        future = gate.count.submit()
        print(future.cancel(), future.cancelled())
        proceed()
        print(gate.count())
    """) == ["CancelledError", "True True", "1"]


@pytest.mark.parametrize("call", ["gate.count()", "gate.count(timeout=60)", "asyncio.run(gate.count_async())"])
def test_ctrl_c_ends_the_wait_and_the_opening_goes_on(folder: Path, call: str) -> None:
    assert run(folder, f"""
        import signal

        def interrupt():
            until(opening_threads)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted", len(opening_threads()))
        proceed()
        print(gate.count())
    """) == ["interrupted 1", "1"]


@pytest.mark.parametrize("started", ["", "started"])
def test_python_exits_while_the_module_is_opened(folder: Path, started: str) -> None:
    done = python(folder, "-W", "error", "-c", HEAD + """import atexit
gate.count.submit()
atexit.register(lambda: print(error_of(gate.count, timeout=0.01)))
if sys.argv[1]:
    until(lambda: gate.count._caller._openings._current.made)
""", started)
    assert "CallTimeout" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_opened_at_the_exit(folder: Path) -> None:
    done = python(folder, "-W", "error", "-c", "import atexit\natexit.register(lambda: print(error_of(gate.count)))\n"
                  + HEAD + "proceed(); gate.count()")
    assert done.stdout.splitlines() == [
        "starts", "AppClosed: gate: Python exits, so the module is not opened any more"], done.stderr


@pytest.mark.parametrize(("end", "kind", "why"), [
    ("gate.panic", "GuestPanic", "the module has ended: panic: on purpose, at main.go:39"),
    ("gate.exit, 0", "GuestExit", "the module has ended: main returned, or os.Exit(0). To keep the module running, end "
     "main with select {}"),
    ("gate.exit, 3", "GuestExit", "the module has ended: exit code 3")])
def test_the_call_after_the_end_opens_the_module_again(folder: Path, end: str, kind: str, why: str) -> None:
    said = run(folder, f"""
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        proceed()
        proceed()
        print(gate.count(), gate.count())
        numbers = gate.endless()
        print(next(numbers))
        print(error_of({end}))
        print(gate.count(), asyncio.run(gate.count_async()))
        print(error_of(lambda: [next(numbers) for _ in range(10_000)]).partition(":")[0])
        print(gate.count())
    """, starts=2)
    assert said == ["1 2", "0", f"{kind}: gate: {why}", f"gate: {why}. It is opened again, with a new state", "1 2",
                    kind, "3"]


def test_threads_that_call_after_the_end_share_the_next_app(folder: Path) -> None:
    assert run(folder, """
        logging.disable()
        for _ in range(20):
            proceed()
            proceed()
            gate.count()
            error_of(gate.panic)
            counts, threads = [], [threading.Thread(target=lambda: counts.append(gate.count())) for _ in range(8)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            print(sorted(counts) == list(range(1, 9)))
            error_of(gate.exit, 0)
    """, starts=40) == ["True"] * 20


def test_a_module_that_panics_at_each_start_is_tried_once_a_call(folder: Path) -> None:
    assert [line.partition(":")[0] for line in run(folder, """
        proceed("panic")
        print(error_of(gate.count))
        proceed("panic")
        print(error_of(gate.count, timeout=60))
        proceed("panic")
        print(error_of(asyncio.run, gate.count_async()))
        proceed()
        print(gate.count())
    """, starts=4)] == ["GuestPanic"] * 3 + ["1"]


def test_a_callable_may_call_the_package_after_the_end(folder: Path) -> None:
    assert run(folder, """
        def ends():
            error_of(gate.panic)
            return gate.count()
        proceed()
        proceed()
        print(error_of(gate.call, ends).partition(":")[0])
        print(gate.count() >= 1)
    """, starts=2) == ["GuestPanic", "True"]


def test_a_fork_while_the_module_is_opened_and_after_that(folder: Path) -> None:
    assert run(folder, """
        import gate as package

        def in_child():
            if (child := os.fork()) == 0:
                print(error_of(package.count)[:11])
                os._exit(0)
            os.waitpid(child, 0)
        future = gate.count.submit()
        until(lambda: gate.count._caller._openings._current.made)
        in_child()
        proceed()
        future.result()
        in_child()
        error_of(gate.exit, 1)
        in_child()
    """) == ["AppForked: ", "AppForked: ", "AppForked: "]
