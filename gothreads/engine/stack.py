"""How much stack a host thread has. WebAssembly that is promised more than there is kills the process when it recurses."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from gothreads.engine import trap_signals
from gothreads.engine.extension import compiled
from gothreads.engine.settings import STACK_MARGIN

#: What a caller's thread must have beyond WebAssembly's part: for the Python frames above the call, and the host functions
#: below it. With the default limit an ordinary thread (8 MiB, a main thread's a little less) is large enough.
CALLER_MARGIN = 1 << 20

class _Inside(threading.local):
    """How many calls deep in WebAssembly the thread is; Go's own threads always are.

    room: how much stack it has, in bytes, when calls may look at nothing else.
    starting: the app whose module's packages it initialises, or has initialised. lend: for a thread of a bounded pool, around what may
    need another of it.
    """

    depth = 0
    room = 0
    starting: object = None
    lend: Callable[[], contextlib.AbstractContextManager[None]] | None = None


class _InsideInC(_Inside):
    """What C looks at before each call is C's."""

    depth = property(lambda self: compiled.get_depth(), lambda self, depth: compiled.set_depth(depth))
    room = property(lambda self: compiled.get_room(), lambda self, room: compiled.set_room(room))


inside: _Inside = _Inside() if compiled is None else _InsideInC()
#: What runs is a call from inside another, or a handler, for which another may wait. A coroutine has it on any loop, and what it begins there.
nested: ContextVar[bool] = ContextVar("nested", default=False)
_local = threading.local()
_size_lock = threading.RLock()  # a signal handler may start threads


@contextlib.contextmanager
def big_stack(wasm: int) -> Iterator[None]:
    """Threads started inside have room for WebAssembly that uses `wasm` bytes of stack.

    Python's setting is the process's: a thread that somebody else starts at this moment gets the large stack too, which
    costs address space only. What somebody else sets meanwhile stays. They inherit this thread's signal mask, which lets traps through.
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
    """Whether the calling thread may run WebAssembly that uses `wasm` bytes of stack. Asked of the system once a thread.

    A thread that is in WebAssembly already may not: nobody knows how much it has used.
    """
    if inside.depth:
        return False
    try:
        size: int = _local.size
    except AttributeError:
        size = _local.size = _stack_size()
        trap_signals.unblock()
        if inside.lend is None:  # else its calls do not go the short way: see App
            inside.room = size
    return size >= wasm + CALLER_MARGIN


#: How many of Python's frames a call must have left: a Python function that the module calls, and cannot be entered for want of them, would
#: leave wasmtime without an answer. What it needs itself is its own affair: then it raises, and that is told.
PYTHON_MARGIN = 150


def check_python_stack() -> None:
    """RecursionError where Python's stack is nearly full.

    Up to Python 3.11 calls of C's count too, which nobody can see; so where there are many frames, it is tried out. Few are seen to be so in 0.4 µs.
    """
    if few_frames():
        return
    try:
        _try(PYTHON_MARGIN)
    except RecursionError:
        raise RecursionError(f"a call into a module needs {PYTHON_MARGIN} more frames than Python's stack has left (sys.setrecursionlimit)") from None


def few_frames() -> bool:
    """Whether not even a third of Python's stack is used."""
    try:
        sys._getframe(sys.getrecursionlimit() // 3)
    except ValueError:
        return True
    return False


def _try(frames: int) -> None:
    if frames:
        _try(frames - 1)


def _stack_size() -> int:
    """Of the calling thread, in bytes; 0 when it cannot be told."""
    library = ctypes.CDLL(None)
    library.pthread_self.restype = ctypes.c_void_p
    me = ctypes.c_void_p(library.pthread_self())
    if sys.platform == "darwin":
        library.pthread_get_stacksize_np.restype = ctypes.c_size_t
        return int(library.pthread_get_stacksize_np(me))
    attributes = ctypes.create_string_buffer(256)  # pthread_attr_t: 56 bytes on x86-64, 64 on ARM64
    if library.pthread_getattr_np(me, attributes):
        return 0
    address, size = ctypes.c_void_p(), ctypes.c_size_t()
    failed = library.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    library.pthread_attr_destroy(attributes)
    return 0 if failed else size.value
