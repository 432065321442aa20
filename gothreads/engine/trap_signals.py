"""Keeps the signals that WebAssembly's traps need.

wasmtime turns SIGILL, SIGSEGV and SIGFPE of compiled code into traps, with handlers that it installs once, with the process's first engine; what is
not its own they pass on to the handlers that they have replaced. `signal.signal` and `faulthandler` would replace wasmtime's, and the next trap, in
any thread, would kill the process. So the interpreter's own changes of these signals are noted instead of made, and a fault outside of WebAssembly is
handled as the program wishes (csrc/signals.c, which has the whole story).

Where there is no C extension, or the interpreter's calls cannot be redirected, wasmtime's handlers are put back at once after each function of
Python's that replaces them. A trap at that very moment is still lost, and a fault outside of WebAssembly goes where it went before the first engine.

Not covered: a native library that replaces the handlers itself and does not pass on what is not its own. (Most do: Go, the JVM, .NET.)
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import importlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from wasmtime import _ffi

from gothreads.engine import extension

log = logging.getLogger("gothreads")

_SIGNALS = (signal.SIGILL, signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS)
_ROOM = 256  # struct sigaction: 152 bytes with glibc on x86-64 and ARM64
_NOT_DONE = ("gothreads keeps the signals that WebAssembly's traps need, and without its C extension cannot do what %s asks: "
             "a crash outside of WebAssembly goes where it went before the first app was opened. Call it before")
_lock = threading.Lock()
_first = True


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Around the making of an engine: from the first one on the signals are kept."""
    global _first
    with _lock if _first else contextlib.nullcontext():
        if not _first:
            yield
            return
        taken = extension.native is not None and extension.native.take_signals(ctypes.cast(_ffi.dll.wasmtime_func_call_unchecked, ctypes.c_void_p).value)
        before = {number: _get(number) for number in _SIGNALS}
        try:
            yield
        finally:
            if taken:
                extension.native.keep_signals()
        if not taken:
            after = {number: _get(number) for number in _SIGNALS}
            _guard({number: action for number, action in after.items() if action[:8] != before[number][:8]})
        _first = False


def unblock() -> None:
    """Let the calling thread, and those that it starts, get these signals. (Where a fault's signal is blocked, the system kills the process.)"""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _guard(wasmtimes: dict[signal.Signals, bytes]) -> None:
    """Without C: have wasmtime's handlers put back after whatever replaces them."""
    module = importlib.import_module("_signal")  # what `signal` calls
    was_enabled = faulthandler.is_enabled()

    def guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            if name == "faulthandler.disable" and was_enabled:  # wasmtime passes faults on to its handler, which must go on handling them
                log.warning(_NOT_DONE, name)
                return True
            try:
                return function(*args, **named)
            finally:
                replaced = [number for number, action in wasmtimes.items() if _get(number)[:8] != action[:8]]
                for number in replaced:
                    _library().sigaction(number, ctypes.create_string_buffer(wasmtimes[number], _ROOM), None)
                if replaced:
                    log.warning(_NOT_DONE, name)
        return call

    def masked(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(how: int, mask: Any) -> Any:
            return function(how, mask if how == signal.SIG_UNBLOCK else set(mask) - set(wasmtimes))
        return call
    for owner, name in ((module, "signal"), (faulthandler, "enable"), (faulthandler, "disable")):
        setattr(owner, name, guarded(f"{owner.__name__.lstrip('_')}.{name}", getattr(owner, name)))
    module.pthread_sigmask = masked(module.pthread_sigmask)  # type: ignore[attr-defined]


def _get(number: int) -> bytes:
    action = ctypes.create_string_buffer(_ROOM)
    _library().sigaction(number, None, action)
    return action.raw


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
