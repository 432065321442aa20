"""Python's signal handlers while the main thread is in a call.

Python runs handlers on the main thread, between any two bytecodes. In a call that is in gothreads' own code: a WASI function, say, in the middle of a
write. An exception there would leave a count wrong, or the module without an answer, so it would be the app's end. And a call that stays in
WebAssembly has no bytecodes at all: no handler would ever run. So

 1. every handler is held: wrapped in `Held`, which runs it at once, and keeps what it raises until the call has come back;
 2. a thread reads Python's wakeup descriptor, and has the engine stop the main thread for a moment (`poke`), where handlers can run;
 3. a call that has not come back 0.2 s after its handler has raised is ended, and with it the app (in a pool, the instance): one thread cannot be
    taken out of a running Go program alone.

A Python function of the program's that the module has called is the program's code: there a handler raises, as anywhere in Python. If that
leaves the function, Go has no answer, which ends the app (the instance) as well; the caller gets the exception as it is.

`calls` says which it is. Its last entry is a Postponed in gothreads' code; in the program's, None (a function) or False (a handler):

    app.exports.f()                    [Postponed]
      a function that Go has called    [Postponed, None]
        app.exports.g()                [Postponed, None, Postponed]
          a handler                    [Postponed, None, Postponed, False]

Invariant: in gothreads' code of a call every handler is held before the first bytecode that could run it. Handlers are installed by the program's
code alone, on this thread. So it is enough to look when a call begins, and again when the program's code in it has returned; and a
call in C, which has no bytecodes, need not look before it calls a host function.
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

#: How long a call may take to come back by itself when a handler has raised, in seconds.
PATIENCE = 0.2
#: When the main thread is poked after a signal: it may be about to wait just when it is. The pauses between, in seconds.
_PAUSES = (0.0005, 0.002, 0.008, 0.03, 0.06, PATIENCE - 0.1005)
#: How often it is looked whose the wakeup descriptor is, in seconds: asyncio takes it for signal handlers of its own, and leaves none.
_LOOK_SECONDS = 0.05
#: Where the wakeup descriptor is somebody else's, how often the main thread is poked while it is in a call, in milliseconds.
_THEIRS_MS = 100
#: What is written to the watcher when something is kept. No signal has that number.
_KEPT = b"\0"
_SA_RESTART = 0x10000000

_NUMBERS = tuple(int(number) for number in signal.valid_signals())
_handler: Callable[[int], Any] = _signal.getsignal  # signal's own makes an enum of the answer

MAIN = threading.main_thread().ident


class Interruptible(Protocol):
    """What a call is in: an app. From any thread."""

    def _poke(self) -> bool:
        """Have the main thread, if it is in the module's code, run signal handlers. False: where it waits it cannot be reached."""

    def _interrupted(self, error: BaseException | None) -> None:
        """End the main thread's call. `error` is what a handler has raised; None: Ctrl-C, whose handler could not run."""


#: The calls that the main thread is in, outermost first: see above. Only the main thread changes it.
calls: list[Postponed | Literal[False] | None] = []
_kept: BaseException | None = None  # C knows whether there is one
_wakeup = _read = -1  # what the watcher is woken by; -1: there is none yet
_theirs = -1  # the wakeup descriptor that somebody else has set: asyncio (loop.add_signal_handler), gunicorn
#: When a call on the main thread is to look after the wakeup descriptor, in seconds of the monotonic clock.
next_look = 0.0
_serial = 0


def watch() -> None:
    """Hold the handlers, and begin to watch. From other threads than the main one: does nothing."""
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
    if _theirs != -1:  # what came between goes to the watcher, which passes it on
        signal.set_wakeup_fd(_theirs)
        if before == -1:
            _wake_watcher()


def _begin_to_watch() -> bool:
    global _read, _wakeup
    try:
        read, write = os.pipe()
    except OSError:  # no descriptor is left: the next call to look tries again
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
    """A handler of the program's: in gothreads' code it runs, and what it raises is kept."""

    __slots__ = ("handler",)

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not calls or not calls[-1] or not on_main_thread():
            self.handler(number, frame)
            return
        depth = len(calls)
        try:
            try:
                calls.append(False)
                self.handler(number, frame)
            finally:
                del calls[depth:]  # before anything is kept: another handler that raises here would be lost
        except BaseException as error:
            keep(error)
        hold()  # it may have installed others

    def __repr__(self) -> str:
        return f"<{self.handler!r}, held by gothreads during calls>"


def _all_held() -> bool:
    if compiled is not None:
        return bool(compiled.all_held())
    return {*map(type, map(_handler, _NUMBERS))} <= {int, types.NoneType, Held}


def hold() -> None:
    """Hold all handlers. Those that raise while they are not held yet raise here."""
    while not _all_held():  # a handler that runs meanwhile may install others
        for number in _NUMBERS:
            handler = _handler(number)
            if isinstance(handler, int | Held | None):
                continue
            held, restarts = Held(handler), _restarts(number)
            replaced = signal.signal(number, held)
            if replaced is not handler and callable(replaced):
                held.handler = replaced.handler if isinstance(replaced, Held) else replaced
            if restarts:
                signal.siginterrupt(number, False)


def _restarts(number: int) -> bool:
    """Whether system calls go on after that signal: signal.siginterrupt, which signal.signal undoes."""
    action = ctypes.create_string_buffer(256)  # struct sigaction: a pointer, 128 bytes of mask, the flags
    ctypes.CDLL(None).sigaction(number, None, action)
    return bool(ctypes.c_int.from_buffer(action, 136).value & _SA_RESTART)


def keep(error: BaseException) -> None:
    """Raise it when the call has come back. The first counts; but what ends programs (SystemExit, Ctrl-C) before all else."""
    global _kept
    if _kept is None or (isinstance(_kept, Exception) and not isinstance(error, Exception)):
        _kept = error
    if compiled is not None:
        compiled.set_kept(True)
    if _wakeup != -1:
        _wake_watcher()


def _wake_watcher() -> None:
    with contextlib.suppress(BlockingIOError):  # it is full: the watcher is about to look
        os.write(_wakeup, _KEPT)


def raise_kept() -> None:
    """Where a call waits outside of the module, and may be given up."""
    if _kept is not None and on_main_thread():
        take()


def take() -> NoReturn:
    """Raise what is kept."""
    global _kept
    error, _kept = _kept, None
    if compiled is not None:
        compiled.set_kept(False)
    assert error is not None
    try:
        raise error
    finally:
        del error  # else it would refer to itself


class Postponed:
    """Around a call on the main thread: what handlers raise is raised when the call has come back, and ends `app` if it does not."""

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
    """As entering it, but for calls that share one, and when `next_look` has not come."""
    global _serial
    hold()
    if not calls:
        _serial += 1
    calls.append(around)


def end() -> None:
    """As leaving it."""
    calls.pop()
    if _kept is not None and (not calls or not calls[-1]):
        take()


def as_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which the module calls, as the program's code. (C has this too.)"""
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
    """Whether a signal handler has raised it: one that is installed is in its traceback. For what has left a Python function that the module called.

    (Ctrl-C's own is in C, and in no traceback.)
    """
    if not on_main_thread():
        return False
    handlers = [handler.handler if isinstance(handler, Held) else handler for handler in map(_handler, _NUMBERS) if callable(handler)]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True
    codes = {code for handler in handlers if (code := _code(handler)) is not None}
    return any(frame.f_code in codes for frame in _frames(error.__traceback__))


def _code(handler: Any) -> types.CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    for candidate in (handler, type(handler).__call__):
        code = getattr(candidate, "__code__", None)  # of a method too
        if isinstance(code, types.CodeType):
            return code
    return None


def _frames(traceback: types.TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _told_apart() -> int:
    """Tells calls apart that share one Postponed."""
    return _serial if compiled is None else _serial + int(compiled.get_serial())


def _watch(read: int) -> None:
    poll = select.poll()
    poll.register(read, select.POLLIN)
    while True:
        numbers = os.read(read, 512) if poll.poll(None if _theirs == -1 else _THEIRS_MS) else b""
        if (told := numbers.replace(_KEPT, b"")) and (theirs := _theirs) != -1:
            with contextlib.suppress(OSError):
                os.write(theirs, told)
        _look(signal.SIGINT in numbers)  # a function of its own: what it has seen must not be kept until the next signal


def _look(ctrl_c: bool) -> None:
    """Have handlers run, wait a moment, and end the call that is there if it is still there after one has raised."""
    try:
        outermost, serial = calls[0], _told_apart()  # those inside it may come and go without end
        reached = True
        for pause in _PAUSES:
            if (app := _innermost(outermost, serial)) is None:
                return
            reached = app._poke()
            time.sleep(pause)
        # Where handlers cannot run, this one is known to raise.
        ends = _kept is not None or (ctrl_c and not reached and getattr(_handler(signal.SIGINT), "handler", None) is signal.default_int_handler)
        if ends and (app := _innermost(outermost, serial)) is not None:
            app._interrupted(_kept)
    except IndexError:  # the main thread is in no call
        pass


def _innermost(outermost: object, serial: int) -> Interruptible | None:
    """The innermost app of the main thread's call, if that is still the same: what has called it comes back then."""
    if calls[0] is not outermost or _told_apart() != serial:
        return None
    return next((call.app for call in reversed(calls[:]) if call and call.app is not None), None)


def in_handler_of(app: object) -> bool:
    """Whether a signal handler runs that has interrupted a call of the app's."""
    if False not in calls or not on_main_thread():
        return False
    interrupted = calls[:len(calls) - calls[::-1].index(False)]
    return any(call and call.app is app for call in interrupted)


def _after_fork() -> None:
    """In the child. This is its main thread, the watcher is not here, and the wakeup descriptor is the parent's too."""
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
