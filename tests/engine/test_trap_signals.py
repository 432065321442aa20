"""WebAssembly's traps stay traps, whatever the program does with the signals that they need; and other faults go where
the program says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gothreads.engine import extension
from tests.support.modules import built
from tests.support.trap_program import _HEAD, WITHOUT, run
from tests.support.waiting import PATIENCE

_TRAPS = """
    one, other = app(), app()
    later(other, "unreachable", 150)
    {change}
    trap(other.wait)
    trap(one.exports.trap_if, True)
    one, other = app(), app()
    later(other, "out of bounds", 20)
    trap(other.wait)
    trap(one.exports.trap_if, True)
"""
_TRAPPED = "trapped\n" * 4


SIGNALS = ["SIGSEGV", "SIGILL", "SIGFPE", "SIGBUS"]
#: What a program does -> a fault outside of WebAssembly that follows it, the exit code, and what is then printed to
#: stderr.
CHANGES = {
    "faulthandler.enable()": ("faulthandler._sigsegv()", -signal.SIGSEGV, "Fatal Python error: Segmentation fault"),
    "faulthandler.enable(); faulthandler.disable()": ("faulthandler._sigsegv()", -signal.SIGSEGV, ""),
    "faulthandler.register(signal.SIGUSR1)": ("os.kill(os.getpid(), signal.SIGUSR1)", 0, "most recent call first"),
    "signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())": (
        "faulthandler._sigsegv()",
        -signal.SIGSEGV,
        "",
    ),
}
#: What a program does with each of the signals -> what that prints to stderr when they come.
DISPOSITIONS = {"lambda *_: print('handled', file=sys.stderr)": "handled\n", "signal.SIG_DFL": "", "signal.SIG_IGN": ""}


@pytest.mark.parametrize("without", [*(pytest.param(part, marks=pytest.mark.long) for part in WITHOUT[:2]), WITHOUT[2]])
@pytest.mark.parametrize("change", CHANGES)
def test_traps_of_calls_and_of_goroutines_are_traps_after(change: str, without: str) -> None:
    fault, code, said = CHANGES[change]
    traps = _TRAPS.format(change=change)
    if without == "C":  # then a fault outside of WebAssembly is not promised to go anywhere else than before
        fault, code, said = "", 0, ""
    done = run(f"{traps}    {fault}\n", without)
    assert done.stdout == _TRAPPED, done.stderr
    assert done.returncode == code
    if without != "C":
        assert said in done.stderr
        assert said or not done.stderr


@pytest.mark.parametrize("without", [*(pytest.param(part, marks=pytest.mark.long) for part in WITHOUT[:2]), WITHOUT[2]])
@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_traps_are_traps_and_signals_do_what_they_are_to_do_after_a_change_of(disposition: str, without: str) -> None:
    ends, code = disposition == "signal.SIG_DFL" and without != "C", """
    def killed(number):
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), number)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    """
    for name in SIGNALS:
        code += _TRAPS.format(change=f"signal.signal(signal.{name}, {disposition})")
        if ends and name != SIGNALS[-1]:
            code += f"    assert killed(signal.{name}), signal.{name}\n"
        elif without != "C":
            code += f"    os.kill(os.getpid(), signal.{name})\n"
    done = run(code, without)
    assert done.stdout == _TRAPPED * len(SIGNALS), done.stderr
    assert done.returncode == (-signal.SIGBUS if ends else 0)
    if without != "C":  # then it is not promised
        assert done.stderr == DISPOSITIONS[disposition] * len(SIGNALS)


@pytest.mark.long
@pytest.mark.parametrize("without", WITHOUT)
def test_what_was_set_before_the_first_app_is_done_and_undone_after_it(without: str) -> None:
    begin = "    faulthandler.enable()\n    signal.signal(signal.SIGFPE, lambda *_: print('handled'))\n"
    done = run(begin + _TRAPS.format(change="os.kill(os.getpid(), signal.SIGFPE)") + "    faulthandler._sigsegv()\n",
               without)
    assert done.stdout == "handled\n" + _TRAPPED, done.stderr
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    done = run(begin + _TRAPS.format(change="faulthandler.disable()") + "    faulthandler._sigsegv()\n", without)
    assert done.stdout == _TRAPPED, done.stderr
    assert done.returncode == -signal.SIGSEGV
    assert ("Fatal Python error" in done.stderr) == (without == "C")  # it says that it stays on
    assert ("cannot do what faulthandler.disable asks" in done.stderr) == (without == "C")


@pytest.mark.long
@pytest.mark.parametrize("without", WITHOUT)
def test_threads_that_block_all_signals_from_the_beginning_trap(without: str) -> None:
    done = run("    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())\n" + _TRAPS.format(change=""),
               without)
    assert done.stdout == _TRAPPED, done.stderr


def test_what_the_program_has_set_is_what_it_is_told() -> None:
    done = run("""
        mine = lambda *_: None
        running = app()
        print(signal.signal(signal.SIGSEGV, mine), signal.signal(signal.SIGSEGV, signal.SIG_IGN) is mine, repr(signal.getsignal(signal.SIGSEGV)))
        faulthandler.enable()
        print(faulthandler.is_enabled(), faulthandler.disable(), faulthandler.is_enabled())
        os.kill(os.getpid(), signal.SIGSEGV)  # ignored again
        print(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGUSR1}) == set(),
              signal.pthread_sigmask(signal.SIG_UNBLOCK, []) == {signal.SIGUSR1})
    """)
    assert done.stdout.splitlines() == ["0 True <Handlers.SIG_IGN: 1>", "True True False", "True True"], done.stderr


@pytest.mark.long
def test_handlers_that_change_all_the_time_lose_no_trap() -> None:
    done = run("""
        def change():
            while True:
                faulthandler.enable()
                faulthandler.disable()
        apps = [app() for _ in range(8)]
        threading.Thread(target=change, daemon=True).start()
        for running in apps:
            later(running, "unreachable", 1)
        for running in apps:
            trap(running.wait)
    """)
    assert (done.returncode, done.stdout) == (0, "trapped\n" * 8), done.stderr


def test_an_engine_of_somebody_elses_may_be_first() -> None:
    done = run("    import wasmtime\n    theirs = wasmtime.Engine()\n" + _TRAPS.format(change="faulthandler.enable(); "
                                                                                              "faulthandler.disable()"))
    assert (done.returncode, done.stdout) == (0, _TRAPPED), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("without", WITHOUT)
def test_pytests_own_faulthandler_may_come_after_the_first_app(tmp_path: Path, without: str) -> None:
    if without != "C" and extension.native is None:
        pytest.skip(f"without C: {extension.missing}")
    head = textwrap.dedent(_HEAD).format(faults=str(built("faults")), without_c=without == "C")
    (tmp_path / "conftest.py").write_text(head + textwrap.dedent("""
        running = [app() for _ in range(3)]  # before the plugin is set up

        def pytest_unconfigure():
            threading.Timer(0.1, lambda: later(running[2], "unreachable", 1)).start()
            trap(running[2].wait)
    """))
    (tmp_path / "test_traps.py").write_text(textwrap.dedent("""
        import faulthandler
        from conftest import later, running, trap

        def test_goroutine():
            assert faulthandler.is_enabled()
            later(running[0], "unreachable", 1)
            trap(running[0].wait)

        def test_call():
            trap(running[1].exports.trap_if, True)
    """))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(tmp_path)],
                          capture_output=True, text=True,
                          timeout=PATIENCE, cwd=tmp_path,
                          env=os.environ | {"GOTHREADS_FAST": "1" if without == "nothing" else "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("trapped") == 3, done.stdout
