"""Keeps wasmtime's signal handlers in place.

wasmtime turns SIGILL, SIGSEGV, SIGFPE and SIGBUS of compiled code into traps, with handlers that it installs once, with
the process's first engine. `faulthandler.enable()` called later replaces them, and the next trap kills Python. (Called
earlier, wasmtime's come first and pass on what is not theirs.) So the handlers are noted after the first engine, and put
back when faulthandler has been turned on since: crashes outside of WebAssembly then go where they went before wasmtime.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import signal
import sys
import threading

from gothreads.host.fast import compiled

log = logging.getLogger("gothreads")

_SIGNALS = (signal.SIGILL, signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS)
_ROOM = 256  # struct sigaction: 152 bytes with glibc on x86-64 and ARM64
_lock = threading.Lock()
_noted: dict[int, bytes] = {}
#: Whether faulthandler was on when it was last looked at; on: nothing to do.
seen = True


def note() -> None:
    """Remember wasmtime's handlers. Called after an engine was made."""
    if not sys.platform.startswith("linux"):
        return
    with _lock:
        if not _noted:
            _noted.update((number, _get(number)) for number in _SIGNALS)
            _see(faulthandler.is_enabled())
            return
    _put_back()


def check() -> None:
    """Before a call: nearly free unless faulthandler has just been turned on."""
    if faulthandler.is_enabled() is not seen:
        now = faulthandler.is_enabled()
        _put_back()
        _see(now)  # last: whoever sees it may rely on the handlers


def _see(on: bool) -> None:
    global seen
    seen = on
    if compiled is not None:
        compiled.set_faulthandler_seen(on)


def _put_back() -> None:
    with _lock:
        replaced = [number for number, action in _noted.items() if _get(number)[:8] != action[:8]]
        for number in replaced:
            _library().sigaction(number, ctypes.create_string_buffer(_noted[number], _ROOM), None)
    if replaced and faulthandler.is_enabled():
        log.warning("faulthandler was enabled after gothreads and took over the signals that WebAssembly traps need; they were taken back, so a crash "
                    "outside of WebAssembly prints no traceback. Enable it before (python -X faulthandler)")


def _get(number: int) -> bytes:
    action = ctypes.create_string_buffer(_ROOM)
    _library().sigaction(number, None, action)
    return action.raw


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
