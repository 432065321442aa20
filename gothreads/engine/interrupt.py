"""Runs Python's signal handlers while the main thread is in a call.

Python runs handlers on the main thread, between any two bytecodes. During a call those are bytecodes of gothreads' own
code, for example of a WASI function in the middle of a write. An exception there would leave a count wrong or the
module without an answer, so it would end the app. And a call that stays in WebAssembly executes no bytecodes, so no
handler would ever run. Therefore:

 1. Every handler is held: wrapped in `Held`, which runs it at once and keeps an exception that it raises until the call
    has returned.
 2. A watcher thread reads Python's wakeup descriptor and makes the engine, or Go's scheduler, interrupt the main
    thread for a moment (`_poke`), so that handlers can run.
 3. A call that has not returned 0.2 s after its handler raised is ended, and the app with it (in a pool, the instance):
    one thread cannot be removed from a running Go program.

A Python function of the program that the module has called is the program's code: there a handler raises as anywhere
else in Python. If the exception leaves the function, Go gets no answer, which also ends the app (or the instance); the
caller gets the exception unchanged.

`calls` tells the two cases apart. Its last entry is a Postponed in gothreads' code; in the program's code it is None
(in a function) or False (in a handler):

    app.exports.f()                    [Postponed]
      a function that Go has called    [Postponed, None]
        app.exports.g()                [Postponed, None, Postponed]
          a handler                    [Postponed, None, Postponed, False]

Invariant: in gothreads' code within a call, every handler is held before the first bytecode that could run it. Only the
program's code installs handlers, and only on this thread. So it is enough to check when a call begins, and again when
program code within it has returned. A call in C, which executes no bytecodes, need not check before it calls a host
function.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import ctypes
import os
import select
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, Literal, NoReturn, Protocol

from gothreads.engine.extension import compiled

#: How long a call may take to return by itself after a handler has raised, in seconds.
PATIENCE = 0.2
#: The pauses between pokes of the main thread after a signal, in seconds. One poke is not enough: the thread may be
#: about to wait just when it is poked.
_PAUSES = (0.0005, 0.002, 0.008, 0.03, 0.06, PATIENCE - 0.1005)
#: A handler that ran so long before the watcher looks may have been that of the signal that has woken it, in seconds.
_JUST_NOW = 0.25
#: How often calls check who owns the wakeup descriptor, in seconds: asyncio takes it for its own signal handlers, and
#: does not restore the one set before.
_LOOK_SECONDS = 0.05
#: If other code owns the wakeup descriptor, how often the main thread is poked during a call, in milliseconds.
_THEIRS_MS = 100
#: Written to the watcher when an exception is kept: a number that no signal has.
_KEPT = b"\0"
_SA_RESTART = 0x10000000

_NUMBERS = tuple(int(number) for number in signal.valid_signals())
_handler: Callable[[int], Any] = _signal.getsignal  # signal.getsignal converts the result to an enum

MAIN = threading.main_thread().ident


class Interruptible(Protocol):
    """An app that a call is in. Its methods may be called from any thread."""

    def _poke(self) -> bool:
        """Let the main thread run signal handlers if it is in the module's code. False if it cannot be reached."""

    def _interrupted(self, error: BaseException | None) -> None:
        """End the main thread's call. error: what a handler raised; None: Ctrl-C, whose handler could not run."""


#: The calls that the main thread is in, outermost first (see above). Only the main thread changes the list.
calls: list[Postponed | Literal[False] | None] = []
_kept: BaseException | None = None  # C is told whether there is one
_wakeup = _read = -1  # the ends of the pipe that wakes the watcher; -1: no watcher yet
_theirs = -1  # a wakeup descriptor that other code has set: asyncio (loop.add_signal_handler), gunicorn
#: When a call on the main thread next checks the wakeup descriptor, in seconds of the monotonic clock.
next_look = 0.0
_serial = 0
_ran = 0.0  # when handlers are last known to have run, or were held, in seconds of the monotonic clock


def watch() -> None:
    """Hold the handlers and start the watcher, or check the wakeup descriptor again. Only acts on the main thread."""
    global next_look, _theirs
    if not on_main_thread():
        return
    next_look = time.monotonic() + _LOOK_SECONDS
    if compiled is not None:
        compiled.set_next_look(next_look)
    hold()
    if _wakeup == -1 and not _begin_to_watch():
        return
    before = _theirs
    previous = signal.set_wakeup_fd(_wakeup, warn_on_full_buffer=False)
    _theirs = -1 if previous in (-1, _wakeup) else previous
    if _theirs != -1:  # signals since the first set_wakeup_fd went to the watcher, which passes them on
        signal.set_wakeup_fd(_theirs)
        if before == -1:
            _wake_watcher()


def _begin_to_watch() -> bool:
    global _read, _wakeup
    try:
        read, write = os.pipe()
    except OSError:  # no descriptor is left: the next check tries again
        return False
    os.set_blocking(write, False)
    try:
        threading.Thread(target=_watch, args=(read,), name="gothreads-interrupt", daemon=True).start()
    except RuntimeError:  # the system has no thread left
        os.close(read)
        os.close(write)
        return False
    _read, _wakeup = read, write
    return True


def on_main_thread() -> bool:
    return threading.get_ident() == MAIN


class Held:
    """A handler of the program, held: when it interrupts gothreads' code it runs, and what it raises is kept."""

    __slots__ = ("handler",)

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        global _ran
        _ran = time.monotonic()
        if not calls or not calls[-1] or not on_main_thread():
            self.handler(number, frame)
            return
        depth = len(calls)
        try:
            try:
                calls.append(False)
                self.handler(number, frame)
            finally:
                del calls[depth:]  # before `keep`: else an exception that another handler raises here would be lost
        except BaseException as error:
            keep(error)
        hold()  # the handler may have installed others

    def __repr__(self) -> str:
        return f"<{self.handler!r}, held by gothreads during calls>"


def _all_held() -> bool:
    if compiled is not None:
        return bool(compiled.all_held())
    return {*map(type, map(_handler, _NUMBERS))} <= {int, types.NoneType, Held}


def hold() -> None:
    """Hold all handlers. An exception from one that runs before it is held propagates from here."""
    global _ran
    while not _all_held():  # a handler that runs meanwhile may install others
        _ran = time.monotonic()
        for number in _NUMBERS:
            handler = _handler(number)
            if isinstance(handler, int | Held | None):
                continue
            held, restarts = Held(handler), _restarts(number)
            replaced = signal.signal(number, held)
            if replaced is not handler and callable(replaced):
                held.handler = replaced.handler if isinstance(replaced, Held) else replaced
            if restarts:
                signal.siginterrupt(number, False)  # noqa: FBT003  (its only form)


def _restarts(number: int) -> bool:
    """Whether system calls restart after this signal (signal.siginterrupt); signal.signal clears that."""
    action = ctypes.create_string_buffer(256)  # struct sigaction: a pointer, 128 bytes of mask, the flags
    ctypes.CDLL(None).sigaction(number, None, action)
    return bool(ctypes.c_int.from_buffer(action, 136).value & _SA_RESTART)


def keep(error: BaseException) -> None:
    """Keep an exception, to be raised when the call has returned.

    The first one wins, except that an exception which ends programs (SystemExit, Ctrl-C) replaces any other.
    """
    global _kept
    if _kept is None or (isinstance(_kept, Exception) and not isinstance(error, Exception)):
        _kept = error
    if compiled is not None:
        compiled.set_kept(True)
    if _wakeup != -1:
        _wake_watcher()


def _wake_watcher() -> None:
    with contextlib.suppress(BlockingIOError):  # the pipe is full, so the watcher is about to read
        os.write(_wakeup, _KEPT)


def raise_kept() -> None:
    """Raise a kept exception, if any. For waits outside the module, where a call may be abandoned."""
    if _kept is not None and on_main_thread():
        take()


def take() -> NoReturn:
    """Raise the kept exception."""
    global _kept
    error, _kept = _kept, None
    if compiled is not None:
        compiled.set_kept(False)
    assert error is not None
    if error.__context__ is None:  # a traceback shows it alone, not as what went wrong in handling the call's own error
        error.__suppress_context__ = True
    try:
        raise error
    finally:
        del error  # avoids a reference cycle: exception, traceback, this frame


class Postponed:
    """Brackets a call on the main thread.

    An exception of a handler is raised when the call has returned; if the call does not return, it ends `app`.
    """

    __slots__ = ("app",)

    def __init__(self, app: Interruptible | None = None) -> None:
        self.app = app

    def __enter__(self) -> None:
        if not calls and time.monotonic() >= next_look:
            watch()
        begin(self)

    def __exit__(self, *_: object) -> None:
        end()


def begin(around: Postponed) -> None:
    """Like entering a Postponed, for calls that share one. Only valid before `next_look`."""
    global _serial
    hold()
    if not calls:
        _serial += 1
    calls.append(around)


def end() -> None:
    """Like leaving a Postponed."""
    calls.pop()
    if _kept is not None and (not calls or not calls[-1]):
        take()


def as_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of the program that the module calls, so that it counts as the program's code. (Also in C.)"""
    def run(*raw: Any) -> Any:
        if not on_main_thread():
            return function(*raw)
        depth = len(calls)
        try:
            calls.append(None)
            return function(*raw)
        finally:
            del calls[depth:]
            hold()
    return run


def from_handler(error: BaseException) -> bool:
    """Whether a signal handler raised `error`: whether an installed handler is in its traceback.

    For exceptions that have left a Python function called by the module. (The default Ctrl-C handler is in C and
    appears in no traceback.)
    """
    if not on_main_thread():
        return False
    handlers = [handler.handler if isinstance(handler, Held) else handler for handler in map(_handler, _NUMBERS)
                if callable(handler)]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True
    codes = {code for handler in handlers if (code := _code(handler)) is not None}
    return any(frame.f_code in codes for frame in _frames(error.__traceback__))


def _code(handler: Any) -> types.CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    for candidate in (handler, type(handler).__call__):
        code = getattr(candidate, "__code__", None)  # methods have it too
        if isinstance(code, types.CodeType):
            return code
    return None


def _frames(traceback: types.TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _call_serial() -> int:
    """A serial number that distinguishes calls which share one Postponed."""
    return _serial if compiled is None else _serial + int(compiled.get_serial())


def _watch(read: int) -> None:
    poll = select.poll()
    poll.register(read, select.POLLIN)
    while True:
        numbers = os.read(read, 512) if poll.poll(None if _theirs == -1 else _THEIRS_MS) else b""
        if (signals := numbers.replace(_KEPT, b"")) and (theirs := _theirs) != -1:
            with contextlib.suppress(OSError):
                os.write(theirs, signals)
        _look(ctrl_c=signal.SIGINT in numbers)  # a separate function: its locals must not live on until the next signal


def _look(*, ctrl_c: bool) -> None:
    """Let handlers run, wait a moment, and end the current call if a handler has raised and the call is still there."""
    try:
        outermost, serial = calls[0], _call_serial()  # the outermost: calls nested in it may come and go without end
        reached, since = True, time.monotonic() - _JUST_NOW
        for pause in _PAUSES:
            if (app := _innermost(outermost, serial)) is None:
                return
            reached = app._poke()
            time.sleep(pause)
        # Where handlers cannot run: the default Ctrl-C handler is known to raise. In the program's code they can, and
        # it may have caught what this one has raised.
        stuck = not reached and _ran < since and bool(calls[-1])
        ends = _kept is not None or (ctrl_c and stuck and _raises_on_ctrl_c())
        if ends and (app := _innermost(outermost, serial)) is not None:
            app._interrupted(_kept)
    except IndexError:  # the main thread is in no call
        pass


def _raises_on_ctrl_c() -> bool:
    handler = _handler(signal.SIGINT)
    return any(one is signal.default_int_handler for one in (handler, getattr(handler, "handler", None)))


def _innermost(outermost: object, serial: int) -> Interruptible | None:
    """The innermost app of the main thread's call; None if that is no longer the same call.

    Ending the innermost app's call makes the outer calls return.
    """
    if calls[0] is not outermost or _call_serial() != serial:
        return None
    return next((call.app for call in reversed(calls[:]) if call and call.app is not None), None)


def run_handlers() -> None:
    """Let handlers run that are due: Python runs them when a function begins. On the main thread."""
    global _ran
    _ran = time.monotonic()


def is_in(app: object) -> bool:
    """Whether the main thread is in a call of this app. From any thread."""
    return any(call and call.app is app for call in calls[:])


def in_handler_of(app: object) -> bool:
    """Whether a signal handler is running that has interrupted a call of this app."""
    if False not in calls or not on_main_thread():
        return False
    interrupted = calls[:len(calls) - calls[::-1].index(False)]
    return any(call and call.app is app for call in interrupted)


def _after_fork() -> None:
    """Runs in the child of a fork: this thread is its main thread, it has no watcher, and the pipe is the parent's."""
    global MAIN, _kept, _wakeup, _read, _theirs, next_look
    if not on_main_thread():
        MAIN, _kept = threading.get_ident(), None
        calls.clear()
        if compiled is not None:
            compiled.set_main_thread(MAIN)
            compiled.set_kept(False)
    if _wakeup != -1:
        previous = signal.set_wakeup_fd(-1)
        if previous not in (-1, _wakeup):
            signal.set_wakeup_fd(previous)
        os.close(_wakeup)
        os.close(_read)
        _wakeup = _read = _theirs = -1
    next_look = 0.0
    if compiled is not None:
        compiled.set_next_look(next_look)


os.register_at_fork(after_in_child=_after_fork)
if compiled is not None:
    compiled.bind_interrupt(calls, MAIN or 0, _handler, _NUMBERS, Held, hold, keep, take)
