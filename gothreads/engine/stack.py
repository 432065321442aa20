"""How much stack host threads have.

If WebAssembly is promised more stack than the thread has, deep recursion kills the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from gothreads.engine import trap_signals
from gothreads.engine.extension import compiled, shared
from gothreads.engine.settings import STACK_MARGIN

#: How much stack a calling thread must have beyond WebAssembly's part, in bytes: for the Python frames above the call
#: and the host functions below it. With the default limit an ordinary thread (8 MiB, the main thread's a little less)
#: is large enough.
CALLER_MARGIN = 1 << 20


class _Inside(threading.local):
    """Per-thread state of calls.

    depth: how many calls into WebAssembly the thread is in; for Go's own threads never 0.
    room: the thread's stack in bytes, set only if calls need no other check before they take the fast path; else 0.
    starting: the app whose module's packages the thread is initialising, or has initialised.
    lend: in a thread of a bounded pool, a context manager for code that may need another thread of that pool.
    """

    depth = 0
    room = 0
    starting: object = None
    lend: Callable[[], contextlib.AbstractContextManager[None]] | None = None


class _InsideInC(_Inside):
    """The fields that C checks before each call are stored in C."""

    depth = property(lambda self: compiled.get_depth(), lambda self, depth: compiled.set_depth(depth))
    room = property(lambda self: compiled.get_room(), lambda self, room: compiled.set_room(room))


inside: _Inside = _Inside() if compiled is None else _InsideInC()


class _InModule:
    """While in it, the thread is in a module's code, or in Python code that the module waits for. Re-entrant."""

    __slots__ = ()

    def __enter__(self) -> None:
        inside.depth += 1

    def __exit__(self, *_: object) -> None:
        inside.depth -= 1


in_module = _InModule()


@contextlib.contextmanager
def initialising(app: object) -> Iterator[None]:
    """While in it, the thread is in the module's code, initialising its packages."""
    before = inside.starting
    with in_module:
        inside.starting = app
        try:
            yield
        finally:
            inside.starting = before


#: Whether the running code is a call made inside another call, or a handler, which another call may wait for. A
#: coroutine keeps the value on any event loop, as do the tasks that it starts there.
nested: ContextVar[bool] = ContextVar("nested", default=False)
_local = threading.local()
_size_lock = threading.RLock()  # a signal handler may start threads


@contextlib.contextmanager
def big_stack(wasm: int) -> Iterator[None]:
    """Threads started inside this context have room for WebAssembly that uses `wasm` bytes of stack.

    Python's setting is process-wide: a thread that other code starts at this moment gets the large stack too, which
    costs only address space. A size that other code sets meanwhile stays. The new threads inherit this thread's signal
    mask, which lets the signals of traps through.
    """
    trap_signals.unblock()
    with _size_lock:
        size = wasm + 2 * STACK_MARGIN
        before = threading.stack_size(size)
        try:
            yield
        finally:
            changed = threading.stack_size(before)
            if changed != size:
                threading.stack_size(changed)


def fits(wasm: int) -> bool:
    """Whether the calling thread may run WebAssembly that uses `wasm` bytes of stack.

    The stack size is asked of the system once per thread. A thread that is already in WebAssembly may not: how much of
    its stack is used is unknown.
    """
    if inside.depth:
        return False
    try:
        size: int = _local.size
    except AttributeError:
        size = _local.size = _stack_size()
        trap_signals.unblock()
        if inside.lend is None:  # else its calls do not take the fast path (runtime/app.py)
            inside.room = size
    return size >= wasm + CALLER_MARGIN


#: How many Python frames must be left for a call: if a Python function that the module calls could not be entered for
#: want of frames, wasmtime would get no answer. If the function itself needs more, it raises, and that is reported.
PYTHON_MARGIN = 150
#: Few frames are less than one part in so many of Python's stack.
_FRAMES_DIVISOR = shared("FRAMES_DIVISOR", 3)


def check_python_stack() -> None:
    """Raise RecursionError if Python's stack is nearly full.

    Up to Python 3.11, C calls count too and cannot be seen; so if there are many frames, this tries to add some. It
    takes 0.4 µs to see that there are few.
    """
    if few_frames():
        return
    try:
        _try(PYTHON_MARGIN)
    except RecursionError:
        raise RecursionError(f"a call into a module needs {PYTHON_MARGIN} more frames than Python's stack has left "
                             f"(sys.setrecursionlimit)") from None


def few_frames() -> bool:
    """Whether less than a third of Python's stack is used."""
    try:
        sys._getframe(sys.getrecursionlimit() // _FRAMES_DIVISOR)
    except ValueError:
        return True
    return False


def _try(frames: int) -> None:
    if frames:
        _try(frames - 1)


def _stack_size() -> int:
    """The stack size of the calling thread, in bytes; 0 if unknown."""
    library = ctypes.CDLL(None)
    library.pthread_self.restype = ctypes.c_void_p
    me = ctypes.c_void_p(library.pthread_self())
    attributes = ctypes.create_string_buffer(256)  # pthread_attr_t: 56 bytes on x86-64, 64 on ARM64
    if library.pthread_getattr_np(me, attributes):
        return 0
    address, size = ctypes.c_void_p(), ctypes.c_size_t()
    failed = library.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    library.pthread_attr_destroy(attributes)
    return 0 if failed else size.value
