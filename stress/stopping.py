"""Every way to stop an app, each in its own Python process, with calls of all kinds in the module: over and over.

    python -m stress.stopping [--times 100] [--only TEXT] [--dev both|yes|no] [--json FILE]

A process that crashes or hangs, an end that takes longer than half a second, and anything unexpected on stderr, is a
finding, and the exit code is 1. tests/runtime/test_stopping.py runs each once.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.builder import build
from gothreads.build.request import Request

FAULTS = Path(__file__).parent.parent / "tests" / "modules" / "faults"
#: How long an app may take to end, in seconds.
BOUND = 0.5
#: After how long a process counts as hung, in seconds.
HANG = 10.0

#: The start of every process. What is registered with atexit before gothreads is imported runs after gothreads has
#: closed its apps.
_PRELUDE = """
import atexit, time
began = []
def report():
    print("ended", *began[:1], time.monotonic(), flush=True)
atexit.register(report)
import asyncio, os, signal, sys, threading
import gothreads
from gothreads.engine import interrupt

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
gate = threading.Event()

class Nowhere:
    def write(self, data):
        return len(data)

def closes():
    began.append(time.monotonic())
    app.close()

def raises():
    raise LookupError("no such thing")

def rest():
    for _ in range(600):  # in slices: Python misses a signal that comes just before a sleep begins
        time.sleep(0.1)

def loops():
    while not gate.is_set():
        time.sleep(0.001)

async def coroutine(payload):
    await asyncio.sleep(3600)

def opened(model={model!r}, **options):
    # Trusted: so the flag stops optimized code that the main thread calls.
    return gothreads.open({module!r}, trust=True, model=model, procs=2, progress=False, stdout=Nowhere(),
                          stderr=Nowhere(),
                          host={{"env": {{"block": {block}, "raises": raises, "close": closes}}}},
                          handlers={{"coroutine": coroutine, "close": lambda payload: closes()}}, **options)

def busy(app, *more):
    "Calls of all kinds that would never end."
    if app.model == "threaded":
        exports = ["receive", "send", "choose", "lock", "condition", "gather", "sleep", *more, "spin", "churn"]
        futures = [app.submit(name) for name in exports for _ in range(2)] + [app.submit_request("ask", "coroutine")]
        while app.exports.there() < len(futures):
            time.sleep(0.005)
    else:
        futures = [app.submit("spin") for _ in range(4)]
        while not (app.statistics().pool.in_use == 2 if app.model == "pool" else app._call_lock._owner):
            time.sleep(0.005)
    return futures

def ready():
    began.append(time.monotonic())
    print("ready", flush=True)

def ready_in_call():
    # Not before the call: what Python does before it may swallow a KeyboardInterrupt (in the callback of a weak
    # reference, for one).
    while not interrupt.calls:
        time.sleep(0.001)
    ready()

def check(futures):
    for future in futures:
        assert isinstance(future.exception(5), gothreads.AppClosed), future.exception()
"""


@dataclass(frozen=True)
class Case:
    """`body` runs after the prelude; `send` is sent once it has printed "ready". `code`: the expected exit code;
    `stderr`: the expected last line on stderr, and all that may be there. `block`: the Python function that calls are
    in.
    """

    name: str
    body: str
    send: signal.Signals | None = None
    code: int = 0
    stderr: str = ""
    model: str = "threaded"
    block: str = "gate.wait"

    def program(self, module: str) -> str:
        return _PRELUDE.format(model=self.model, module=module,
                               block=f"lambda: {self.block}() and None") + textwrap.dedent(self.body)

    def __str__(self) -> str:
        return self.name


_FUTURES = "app = opened()\nfutures = busy(app)\nready()\n"
_CLOSE = _FUTURES + "app.close()\ncheck(futures)\nassert app.state is gothreads.State.CLOSED\n"
_BUSY = "app = opened()\nbusy(app)\n"
_EXIT = _BUSY + "ready()\n"
_EXIT_7 = "except KeyboardInterrupt:\n    sys.exit(7)\n"
_IN_CALL = _BUSY + "try:\n    threading.Thread(target=ready_in_call).start()\n    app.exports.{}()\n" + _EXIT_7
_SPIN = "try:\n    threading.Timer(0.1, ready).start()\n    app.exports.spin()\n" + _EXIT_7
_WARNING = "not all threads have left yet; those in Python functions that the module called end when these return"
_SIGTERM = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))\n"


def _cases() -> Iterator[Case]:
    for model in ("threaded", "single", "idle", "pool"):
        body = "\n".join(line.replace("opened()", "opened(instances=2)") if model == "pool" else line
                         for line in _CLOSE.splitlines())
        yield Case(f"close, {model}", body, model=model)
        yield Case(f"the interpreter ends without close, {model}", body.split("ready()")[0] + "ready()\n", model=model)
    yield Case("close from another thread",
               _FUTURES + "t = threading.Thread(target=app.close)\nt.start()\nt.join()\ncheck(futures)\n")
    yield Case("close twice at the same moment", """
        app = opened()
        futures = busy(app)
        barrier = threading.Barrier(3)
        def close():
            barrier.wait()
            app.close()
        threads = [threading.Thread(target=close) for _ in range(3)]
        ready()
        for t in threads: t.start()
        for t in threads: t.join()
        app.close()
        check(futures)
        """)
    yield Case("close from inside a host function", """
        app = opened()
        futures = busy(app)
        try:
            app.exports.closes()
        except gothreads.AppClosed:
            pass
        app.close()
        check(futures)
        """)
    yield Case("close from inside a handler",
               _FUTURES
               + "try:\n    app.request('ask', 'close')\nexcept gothreads.AppClosed:\n    "
                 "pass\napp.close()\ncheck(futures)\n")
    yield Case("close in __exit__ after an exception", """
        try:
            with opened() as app:
                futures = busy(app)
                ready()
                raise ValueError
        except ValueError:
            check(futures)
        """)
    yield Case("close in a signal handler, in the middle of calls", """
        app = opened()
        futures = busy(app)
        signal.signal(signal.SIGALRM, lambda *_: (ready(), app.close()))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            while True:
                app.statistics()
                app.signal("nobody", "x", full="drop")
                app.exports.plus(1, 1)
        except gothreads.AppClosed:
            app.close()
            check(futures)
        """)
    yield Case("close while the module dies", """
        app = opened()
        futures = busy(app)
        app.submit("fault", "panic")
        app.submit("fault", "exit")
        began.append(time.monotonic())
        app.signal("go")
        app.close()
        for future in futures:
            assert isinstance(future.exception(5), gothreads.GothreadsError)
        """)
    yield Case("close while calls are in Python functions",
               "app = opened()\nfutures = busy(app, 'block')\nready()\napp.close()\ncheck(futures)\ngate.set()\n",
               stderr=_WARNING)
    yield Case("the interpreter ends while calls wait in Python functions",
               "app = opened()\nbusy(app, 'block')\nready()\n", stderr=_WARNING)
    yield Case("the interpreter ends while calls run in Python functions",
               "app = opened()\nbusy(app, 'block')\nready()\n",
               stderr=_WARNING, block="loops")
    yield Case("an exception that nobody catches", _EXIT + "raise ValueError('on purpose')\n", code=1,
               stderr="ValueError: on purpose")
    yield Case("sys.exit", _EXIT + "sys.exit(6)\n", code=6)
    yield Case("SIGTERM", _EXIT + "rest()\n", signal.SIGTERM, -signal.SIGTERM)
    yield Case("SIGTERM that is turned into SystemExit, asleep", _SIGTERM + _EXIT + "rest()\n", signal.SIGTERM,
               8)
    yield Case("SIGTERM that is turned into SystemExit, in wait", _SIGTERM + _EXIT + "app.wait()\n", signal.SIGTERM, 8)
    yield Case("Ctrl-C, asleep",
               _BUSY + "try:\n    ready()\n    rest()\nexcept KeyboardInterrupt:\n    sys.exit(7)\n",
               signal.SIGINT, 7)
    yield Case("Ctrl-C, in wait", _BUSY
               + "try:\n    ready()\n    app.wait()\nexcept KeyboardInterrupt:\n    sys.exit(7)\n", signal.SIGINT, 7)
    for export in ("spin", "receive", "sleep"):
        yield Case(f"Ctrl-C, in a call: {export}", _IN_CALL.format(export), signal.SIGINT, 7)
        yield Case(f"SIGTERM that is turned into SystemExit, in a call: {export}", _SIGTERM + _IN_CALL.format(export),
                   signal.SIGTERM, 8)
    for model in ("single", "idle", "pool"):
        body = f"app = opened({'instances=2' if model == 'pool' else ''})\n" + _SPIN
        yield Case(f"SIGTERM that is turned into SystemExit, in a call, {model}", _SIGTERM + body, signal.SIGTERM, 8,
                   model=model)
        yield Case(f"Ctrl-C, in a call, {model}", body, signal.SIGINT, 7, model=model)
    yield Case("Ctrl-C while the module starts", """
        try:
            threading.Timer(0.2, ready).start()
            app = opened(env={"START": "spin"})
        except KeyboardInterrupt:
            sys.exit(7)
        """, signal.SIGINT, 7)
    yield Case("Ctrl-C while packages are initialised", """
        try:
            threading.Timer(0.2, ready).start()
            app = opened(env={"INIT": "spin"})
        except KeyboardInterrupt:
            sys.exit(7)
        """, signal.SIGINT, 7)


CASES = list(_cases())


@dataclass(frozen=True)
class Run:
    """`seconds`: from the moment of stopping until the app had ended (for SIGTERM, the process). `wrong`: the problem,
    if any.
    """

    seconds: float
    wrong: str = ""


def built(case: Case) -> str:
    return str(build(Request(str(FAULTS), model="threaded" if case.model == "threaded" else "single")).path)


def run(case: Case, module: str, *options: str) -> Run:
    """Runs a case once, in its own process."""
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            [sys.executable, *options, "-c", case.program(module)], stdout=subprocess.PIPE, stderr=errors, text=True,
            cwd=Path(__file__).parent.parent) as process:
        assert process.stdout is not None
        sent = 0.0
        try:
            if case.send is not None:
                if process.stdout.readline() != "ready\n":
                    raise subprocess.TimeoutExpired("it was never ready", 0)
                sent = time.monotonic()
                process.send_signal(case.send)
            out, _ = process.communicate(timeout=30 if case.send is None else HANG)
            end = time.monotonic()
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            process.wait()
            errors.seek(0)
            return Run(HANG, "hangs: " + errors.read()[-2000:])
        errors.seek(0)
        # Under -X dev, Python also says which apps were left open.
        stderr = re.sub(r".*ResourceWarning: (unclosed <gothreads\.App .*\n.*|Enable tracemalloc.*)\n", "",
                        errors.read()).strip()
    ended = [line.split()[1:] for line in out.splitlines() if line.startswith("ended")]
    if process.returncode != case.code:
        return Run(0, f"the process ended with {process.returncode}: {stderr[-2000:]}")
    if not (stderr.endswith(case.stderr) if case.stderr else stderr == ""):
        return Run(0, f"on stderr: {stderr[-2000:]}")
    if not ended and case.code >= 0:
        return Run(0, "the process has not ended properly")
    seconds = (float(ended[0][-1]) if ended else end) - (sent or float(ended[0][0]))
    return Run(seconds, f"took {seconds:.2f} s" if seconds > BOUND else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--only", default="", help="only cases whose names contain this")
    parser.add_argument("--dev", choices=["both", "yes", "no"], default="both", help="under python -X dev")
    parser.add_argument("--json", type=Path, help="write the figures to that file")
    arguments = parser.parse_args()
    figures, findings = [], 0
    for case in CASES:
        if arguments.only not in case.name:
            continue
        module = built(case)
        for dev in {"both": (False, True), "yes": (True,), "no": (False,)}[arguments.dev]:
            runs: list[Run] = []
            for number in range(arguments.times):
                runs.append(run(case, module, *(("-X", "dev") if dev else ())))
                if sys.stderr.isatty():
                    print(f"\r{case.name}: {number + 1}", end="\r", file=sys.stderr, flush=True)
            wrong = [one.wrong for one in runs if one.wrong]
            slowest = max(one.seconds for one in runs)
            findings += len(wrong)
            figures.append({"case": case.name, "dev": dev, "times": len(runs), "slowest": slowest, "wrong": wrong})
            print(f"{case.name + (' (-X dev)' if dev else ''):75} {len(runs):4} times, slowest {slowest * 1e3:4.0f} "
                  f"ms, {len(wrong)} wrong",
                  flush=True)
            for one in wrong[:3]:
                print(textwrap.indent(one, "    "), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
