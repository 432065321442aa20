"""Protects the signal handlers that WebAssembly's traps need.

wasmtime turns SIGILL, SIGSEGV and SIGFPE in compiled code into traps. It installs its handlers once, with the process's
first engine; they pass other faults on to the handlers that they replaced. `signal.signal` and `faulthandler` would
replace wasmtime's handlers, and the next trap in any thread would kill the process. So the interpreter's own changes to
these signals are recorded instead of made, and a fault outside WebAssembly is handled as the program has asked
(csrc/trap_signals.c has the details).

Without the C extension, or if the interpreter's calls cannot be redirected, wasmtime's handlers are restored
immediately after each Python function that replaces them. A trap in between is still lost, and a fault outside
WebAssembly goes where it went before the first engine.

Not covered: a native library that replaces the handlers itself and does not pass on the faults that are not its own.
(Most do pass them on: Go, the JVM, .NET.)
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
_NOT_DONE = ("gothreads keeps the signals that WebAssembly's traps need, and without its C extension cannot do what %s "
             "asks: a crash outside of WebAssembly goes where it went before the first app was opened. Call it before")
_lock = threading.Lock()
_first = True


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Brackets the creation of an engine: from the first engine on, the signals are protected."""
    global _first
    with _lock if _first else contextlib.nullcontext():
        if not _first:
            yield
            return
        taken = (extension.native is not None
                 and extension.native.take_signals(ctypes.cast(_ffi.dll.wasmtime_func_call_unchecked,
                                                               ctypes.c_void_p).value))
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
    """Unblock these signals in the calling thread and the threads that it starts.

    (If the signal of a fault is blocked, the system kills the process.)
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _guard(wasmtimes: dict[signal.Signals, bytes]) -> None:
    """Without C: restore wasmtime's handlers after each function that replaces them."""
    module = importlib.import_module("_signal")  # the module that `signal` calls
    was_enabled = faulthandler.is_enabled()

    def guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            # wasmtime passes faults on to faulthandler's handler, which must keep handling them.
            if name == "faulthandler.disable" and was_enabled:
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
