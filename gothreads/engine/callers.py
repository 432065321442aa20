"""The callers of a cache (callback_m.py), as C sees them: a call in C takes one that is at rest and puts it back, without any of Python's code.

What C (gothreads/csrc) has of this, it has of the same names. All of it is guarded by Python's lock.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from gothreads.engine.extension import compiled


class Caller:
    """`functions` of the instance, by name. `since`: when it was taken, or put back, in seconds of the monotonic clock. `calls` that it has made."""

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}
        self.since = 0.0
        self.calls = 0


class BuffersBase:
    """Where a caller's slot is in the module (0: it has not been opened), and how many requests were begun since."""

    def __init__(self) -> None:
        self.address = self.requests = 0


class IdleCallers(deque[Any]):
    """The callers at rest, last in, first out; and the door to them.

    open: the app runs, and takes calls. waiting, passed: as sync/wait_queue.py counts. over: there are more callers than the limit.
    """

    open = False
    waiting = passed = 0
    over = False

    def __init__(self, cache: object, postponed: object, stack: int, idle_seconds: float, memory: int, shared: int) -> None:
        """C calls `cache.released`, `cache.release` and `cache.trapped` (callback_m.py). `postponed` is around calls on the main thread.
        stack: what a thread must have for WebAssembly, in bytes. memory, shared: the addresses of the memory, and of what wasmtime has of it.
        """
        super().__init__()


if compiled is not None:
    Caller, IdleCallers, BuffersBase = compiled.Caller, compiled.Rest, compiled.Slot  # type: ignore[misc]
