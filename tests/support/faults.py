"""The faults that tests cause (tests/runtime/test_faults_table.py), and what each caller must see.

Also generates the table of both, docs/faults.md.
"""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import gothreads
from gothreads import GuestError, GuestExit, GuestPanic, GuestTrap, HostFunctionError, Limits, State
from tests.support.modules import ROOT

DOCUMENT = ROOT / "docs" / "faults.md"
#: The deadline for the last caller to get the cause, in seconds.
BOUND = 0.5


@dataclass(frozen=True)
class Fault:
    """A fault, and its expected consequences.

    `where` causes it: an export of tests/modules/faults, "handler", "event", "init" or "start". `kind` is the fault's
    name there. `error`, `code` and `said` are what every caller gets. `state` is the app's state afterwards.
    """

    title: str
    where: str
    kind: str
    error: type[GuestError]
    code: int
    said: str
    state: State = State.EXITED
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.title


def _panic(title: str, where: str, kind: str, said: str, **options: Any) -> Fault:
    return Fault(title, where, kind, GuestPanic, 2, said, options=options)


def _exit(title: str, where: str, kind: str = "exit", code: int = 3, said: str = "exit code 3") -> Fault:
    return Fault(title, where, kind, GuestExit, code, said)


def _trap(title: str, where: str, kind: str, said: str) -> Fault:
    return Fault(title, where, kind, GuestTrap, 134, said, State.FAILED)


def _host(title: str, where: str) -> Fault:
    said = "env.raises, a Python function that the module called, raised LookupError: no such thing"
    return Fault(title, where, "host", HostFunctionError, 134, said, State.FAILED)


_MEMORY = {"limits": Limits(memory=96 << 20)}
_THREADS = {"limits": Limits(threads=40)}
_PANICS = [
    _panic("panic in an export", "fault", "panic", "panic: on purpose"),
    _panic("panic in a handler", "handler", "panic", "panic: on purpose"),
    _panic("nil pointer in an export", "fault", "nil pointer",
           "panic: runtime error: invalid memory address or nil pointer dereference"),
    _exit("os.Exit(3) in an export", "fault"),
    _exit("os.Exit(3) in a handler", "handler"),
    _trap("`unreachable` in a raw export", "fault", "unreachable", "wasm `unreachable` instruction executed"),
    _trap("out-of-bounds load in a raw export", "fault", "out of bounds", "out of bounds memory access"),
    _panic("out of memory at the declared maximum", "fault", "memory", "fatal error: out of memory", **_MEMORY),
    _host("a host function raises, called by an export", "fault"),
]
#: In stock Go the host thread's stack overflows before Go's own limit is reached.
_RECURSION = [_trap("stack exhausted", "fault", "stack",
                    "call stack exhausted (each thread has 6 MiB for it: --limit stack=SIZE, in Python Limits(stack=...))")]
#: For models in which Go's scheduler runs on after the call has returned.
_BACKGROUND = [
    _panic("panic in a goroutine", "fault_goroutine", "panic", "panic: on purpose"),
    _panic("panic in a timer's function", "fault_timer", "panic", "panic: on purpose"),
    _panic("panic in the receiver of an event", "event", "panic", "panic: on purpose"),
    _exit("os.Exit(3) in a goroutine", "fault_goroutine"),
    _host("a host function raises, called by a goroutine", "fault_goroutine"),
]
_STARTING = [
    _panic("panic in init", "init", "panic", "panic: on purpose"),
    _exit("os.Exit(3) in init", "init"),
    _trap("`unreachable` in init", "init", "unreachable", "wasm `unreachable` instruction executed"),
    _host("a host function raises, called by init", "init"),
    _panic("panic in the hook `start`", "start", "panic", "panic: on purpose"),
    _exit("os.Exit(3) in the hook `start`", "start"),
]

#: Model -> its faults, each tested with 50 callers.
FAULTS: dict[str, list[Fault]] = {
    "threaded": [
        *_PANICS, *_BACKGROUND,
        _panic("endless recursion", "fault", "stack", "fatal error: stack overflow"),
        _panic("panic in a deferred function", "fault_deferred", "panic", "panic: on purpose"),
        _panic("panic in main", "fault_main", "panic", "panic: on purpose"),
        _panic("a second panic while the first is on its way", "fault", "again", "panic: before that"),
        _exit("os.Exit(3) in a deferred function", "fault_deferred"),
        _exit("os.Exit(3) in a timer's function", "fault_timer"),
        _exit("os.Exit(3) in the receiver of an event", "event"),
        _exit("os.Exit(3) in main", "fault_main"),
        _exit("os.Exit(0) in an export", "fault", "exit 0", 0, "main returned, or os.Exit(0)"),
        _exit("os.Exit(2) in an export, which is no panic", "fault", "exit 2", 2, "exit code 2"),
        _exit("main returns", "fault_main", "return", 0, "main returned, or os.Exit(0)"),
        _panic("runtime.Goexit in an export", "fault", "goexit",
               "fatal error: runtime.Goexit called in a thread that was not created by the Go runtime"),
        _panic("concurrent map writes", "fault", "maps", "fatal error: concurrent map writes"),
        _panic("unlock of an unlocked mutex", "fault", "unlock", "fatal error: sync: unlock of unlocked mutex"),
        _panic("no thread left: Limits(threads=40)", "fault", "threads",
               "fatal error: gothreads: the host has no thread left for the Go runtime", **_THREADS),
        _trap("`unreachable` in a goroutine", "fault_goroutine", "unreachable",
              "wasm `unreachable` instruction executed"),
        _trap("integer division by zero in a raw export", "fault", "divide", "integer divide by zero"),
    ],
    "single": _PANICS + _RECURSION,
    "idle": _PANICS + _RECURSION + _BACKGROUND,
    "pool": _PANICS + _RECURSION,
}
#: Model -> faults that make `open` fail.
STARTING = dict.fromkeys(FAULTS, _STARTING)
#: Faults of a module with wasi-threads: `kind` is the exit code; -1 means a trap.
WASI_THREADS = [
    _trap("a thread traps", "start_ender", "-1", "wasm `unreachable` instruction executed"),
    _exit("a thread calls proc_exit(3)", "start_ender", "3"),
    _exit("a thread calls proc_exit(0)", "start_ender", "0", 0, "main returned, or os.Exit(0)"),
]


@dataclass(frozen=True)
class Measured:
    """One test's result. `seconds`: from the fault until the last of the callers had its exception."""

    section: str
    fault: Fault
    callers: int
    seconds: float


_SECTIONS = {
    "threaded": ("threaded",
                 "50 callers each: one causes the fault; 2 compute (one in a loop without calls); 31 wait (for "
                             "channels, locks, a `sync.Cond`, a `WaitGroup`, timers, replies of the host); one is in a "
                             "Python function, and gets the cause after a tenth of a second; and 15 wait for a free "
                             "caller."),
    "single": ("single", "50 callers each: one is in the module, the others wait for their turn."),
    "idle": ("idle", "As `single`. A fault after the call that led to it has returned ends the app too."),
    "pool": ("pool",
             "In a pool only the call with the fault is lost, and a fresh instance replaces its instance. The other "
                     "calls, some in other instances and some waiting for one, get their answers. The time is that of "
                     "the one call."),
    "wasi-threads": ("Modules with wasi-threads",
                     "50 callers each: one is in the module, the others wait for their turn."),
    "open": ("While the module starts",
             "In every model `gothreads.open` raises the error, with the same type, exit code "
                                        "and message. The time is that of the slowest model."),
}


def rows() -> list[tuple[str, Fault]]:
    """The table's rows, in order: section and fault."""
    return [*((model, fault) for model, faults in FAULTS.items() for fault in faults),
            *(("wasi-threads", fault) for fault in WASI_THREADS),
            *(("open", fault) for fault in _STARTING)]


def markdown(measured: Iterable[Measured]) -> str:
    """The document. If a row has several measurements, the slowest counts. ValueError if a row has none."""
    slowest: dict[tuple[str, Fault], Measured] = {}
    for one in measured:
        key = one.section, one.fault
        if key not in slowest or one.seconds > slowest[key].seconds:
            slowest[key] = one
    if missing := [f"{section}: {fault}" for section, fault in rows() if (section, fault) not in slowest]:
        raise ValueError("not measured: " + "; ".join(missing))
    lines = [_HEAD.format(machine=f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python "
                                  f"{platform.python_version()}, wasmtime {version('wasmtime')}, gothreads "
                                  f"{gothreads.__version__}")]
    for section, (title, text) in _SECTIONS.items():
        callers = "the caller gets" if section in ("pool", "open") else "every caller gets"
        lines += [f"## {title}", "", textwrap.fill(text, 118), ""]
        lines += [f"| what happens | {callers} | `exit` | `state` | after |", "|---|---|---|---|---|"]
        for of, fault in rows():
            if of == section:
                one = slowest[section, fault]
                state, code = (
                    ("running", "")
                    if section == "pool"
                    else ("", str(fault.code))
                    if section == "open"
                    else (fault.state.value, str(fault.code))
                )
                lines.append(f"| {fault.title} | `{fault.error.__name__}`: {_escaped(fault.said)} | {code} | {state} | "
                             f"{one.seconds * 1e3:.0f} ms |")
        lines.append("")
    lines.append(_TAIL)
    return "\n".join(lines)


def titles(document: str) -> list[tuple[str, str]]:
    """(section, fault's title) of every row in a document."""
    names = {title: section for section, (title, _) in _SECTIONS.items()}
    found, section = [], ""
    for line in document.splitlines():
        if line.startswith("## "):
            section = names.get(line[3:], "")
        elif section and line.startswith("| ") and " ms |" in line:
            found.append((section, line.split(" | ")[0].removeprefix("| ")))
    return found


def _escaped(text: str) -> str:
    return text if "`" in text else f"`{text}`"


_HEAD = """# What happens when something fails

An unrecovered panic, `os.Exit` or a trap, anywhere in the module, ends the module, as it ends a native program. The
Python process and the other apps in it run on, and the same module can be opened again.

- **Every caller gets the first cause**, as an exception of its own: callers that run, wait, sleep or queue, and those
  that call later. All know within 0.5 seconds, however many there are and whatever they are doing.
- `app.error` is the cause, and `app.exit` the exit code that a process would have had. `app.state` is `ending` until
  the last thread has left the module, and then as in the tables.
- `error.stderr` has the last that the module wrote to standard error, with a panic's beginning if it is long.
- `error.frames` of a trap or a panic say where it happened, with Go's functions, files and lines, also in a module
  without names (`--strip`), and in optimized code. `str(error)`, and so every traceback, shows the program's own, the
  innermost first. The line of a trap itself may be one near it; those of the calls that led there are exact.
- Everything that the module had written to stdout and stderr arrives.
- Nothing is left behind: no threads, file descriptors or memory.

Each line is a test in `tests/runtime/test_faults_table.py`, which causes the real fault and measures the last column: the time
from the fault until the last caller had its exception (of the slowest run, if there are several). When Go's runtime
gives up (out of memory, no thread left), it prints the stacks of goroutines before it ends the module, and the time
includes that. Of a great many goroutines it prints the first (some 50 KB); set `GOTRACEBACK=all` in the module's
environment for all of them, however long that takes. The moment of stack exhaustion is not observable, so its time counts from the first caller that
knew.

Measured on {machine}.
To measure again: `pytest tests/runtime/test_faults_table.py --faults-table docs/faults.md`
"""

_TAIL = """## What cannot be ended

**A Python function that the module has called** (`host=`, a `stdout` object's `write`) runs until it returns. A caller
that uses the app's own threads (`submit`, `map`, `call_async`, `submit_request`, and any call from a thread with a
small stack) still gets the cause within 0.5 seconds. `close()` returns then too, with a warning in the log; the app's
resources are freed when the function returns. A thread that made the call itself (`app.exports.f()`) is inside that
function, and gets the cause when it returns from it.

When a module is closed, **its hook `stop`** has 5 seconds. **Coroutines** of `handlers=` that are cancelled have one
second to clean up.

`tests/runtime/test_stopping.py` tests everything that stops an app from outside (`close()`, the end of the interpreter,
SIGTERM, Ctrl-C) in all of these situations; `python -m stress.stopping` repeats each a hundred times.
"""
