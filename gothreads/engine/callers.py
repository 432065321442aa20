"""The parts of callers and their cache (callback_m.py) that C also uses.

With them the C fast path can take an idle caller and put it back without running Python code. The C versions
(csrc/callers.c) have the same members and replace these classes when the extension is in use.
"""

from __future__ import annotations

from typing import Any

from gothreads.engine.extension import compiled


class Caller:
    """The base of CallbackM.

    functions: exported functions of the instance, by name.
    since: when the caller was last taken or put back, in seconds of the monotonic clock.
    calls: how many calls it has made.
    """

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}
        self.since = 0.0
        self.calls = 0


class Slot:
    """The base of Buffers: the address of a caller's slot in the module, and how many requests were begun on it.

    The address is 0 until the slot is opened; requests count from then on.
    """

    def __init__(self) -> None:
        self.address = self.requests = 0


class IdleCallers(list[Any]):
    """The idle callers, last in, first out, and whether new calls may take one.

    Any thread may use it without a lock: taking one (`pop`), putting one back (`append`) and `copy` are single steps,
    which come one after the other (callback_m.py, invariant 4). In C a lock makes them so.

    open: the app is running and accepts calls.
    waiting, passed: the counts of sync/wait_queue.py.
    over: there are more callers than the limit.
    """

    open = False
    waiting = passed = 0
    over = False

    # The compiled twin (csrc/callers.c) takes its arguments by position.
    def __init__(self, cache: object, postponed: object, stack: int, idle_seconds: float,  # noqa: PLR0917
                 memory: int, shared: int) -> None:
        """cache: C calls its `released`, `release` and `trapped` (callback_m.py).
        postponed: the interrupt.Postponed that brackets calls on the main thread; None: C leaves these to Python.
        stack: how much stack a thread must have, in bytes.
        memory, shared: the host addresses of the memory and of its wasmtime_sharedmemory_t.
        """
        super().__init__()

    def popleft(self) -> Any:
        """Take the caller that was put back first. IndexError if there is none."""
        return self.pop(0)

    def appendleft(self, caller: Any) -> None:
        """Put a caller back; it is the last to be taken."""
        self.insert(0, caller)


if compiled is not None:
    Caller, IdleCallers, Slot = compiled.Caller, compiled.IdleCallers, compiled.Slot  # type: ignore[misc]
