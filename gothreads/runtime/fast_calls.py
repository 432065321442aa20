"""The fast path for calls that need only an idle caller: in C (gothreads/csrc), or in Python if C was not built.

Uncommon cases take the slow path (runtime/app.py): a named argument, an app that does not run, a thread that is inside
already or has a small stack, a cache without an idle caller, waiters that newcomers may not overtake
(sync/wait_queue.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any

from gothreads.bridge.exports import Export, Function
from gothreads.bridge.go_types import FLOAT32_MAX, RANGES
from gothreads.callback_m import CallbackMCache
from gothreads.engine import ffi, interrupt
from gothreads.engine.extension import compiled, shared
from gothreads.engine.stack import CALLER_MARGIN, few_frames, inside

#: The most parameters that a call in C may have.
_MOST_PARAMETERS = shared("MOST_PARAMETERS", 8)
#: How often to check whether Python's stack has room, in seconds: see has_frames in csrc/fast_calls.c.
_FRAMES_CHECK_SECONDS = shared("FRAMES_CHECK_SECONDS", 5e-6)


def fast_export(function: Function, export: Export, cache: CallbackMCache,
                postponed: interrupt.Postponed | None, stack: int) -> Function:
    """The same function, taking the fast path where it can.

    `postponed` surrounds calls on the main thread (None: these take the slow path); `stack` is as for stack.fits.
    """
    if compiled is None:
        return _FastExport(function, export, cache, postponed, stack)
    if export.has_strings or len(export.params) > _MOST_PARAMETERS:
        return function
    made: Function = compiled.FastExport(function, cache.idle, export.name, export.params, export.result)
    return made


def requester(cache: CallbackMCache) -> Callable[[str, Any], bytes | None]:
    """A function that requests (handler, payload) in C in the common case; otherwise it returns None."""
    if compiled is None:
        return lambda handler, payload: None
    return functools.partial(compiled.request, cache.idle)


class _FastExport(Function):
    """Does what csrc/ does, step by step (begin, take_caller, run, end); the reasons are there.

    Everything is inlined where possible: calls of Python functions are most of the cost.
    """

    def __init__(self, function: Function, export: Export, cache: CallbackMCache,
                 postponed: interrupt.Postponed | None, stack: int) -> None:
        self.__dict__.update(function.__dict__)
        self._cache, self._idle, self._pop = cache, cache.idle, cache.idle.pop
        self._postponed, self._room = postponed, stack + CALLER_MARGIN
        self._name, self._types = export.name, (export.params, export.result)
        #: For each parameter, the type and range that need no conversion; `super` converts or refuses other values.
        self._simply = [_SIMPLY[parameter.type] for parameter in export.signature.params]
        self._count = -1 if export.has_strings else len(self._simply)

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        idle, mine = self._idle, inside.__dict__  # its dict: each access to a threading.local looks it up again
        if (named or len(args) != self._count or not idle.open or idle.passed or mine.get("room", 0) < self._room
            or mine.get("depth")):
            return super().__call__(*args, **named)
        for value, (kind, least, most) in zip(args, self._simply, strict=True):
            if type(value) is not kind or not least <= value <= most:
                return super().__call__(*args)
        now = monotonic()
        if now - mine.get("looked", 0.0) >= _FRAMES_CHECK_SECONDS:
            if not few_frames():
                return super().__call__(*args)
            mine["looked"] = now
        if get_ident() != interrupt.MAIN:
            return self._run(args, mine, now)
        if self._postponed is None or now >= interrupt.next_look:
            return super().__call__(*args)
        interrupt.begin(self._postponed)  # no KeyboardInterrupt from here: it would lose the caller
        try:
            return self._run(args, mine, now)
        finally:
            interrupt.end()

    def _run(self, args: tuple[Any, ...], mine: dict[str, Any], now: float) -> Any:
        idle = self._idle
        try:
            caller = self._pop()
        except IndexError:
            return super().__call__(*args)
        if not idle.open:  # read after taking: callback_m.py, invariant 4
            idle.append(caller)
            return super().__call__(*args)
        caller.since = now
        mine["depth"] = 1
        try:
            try:
                answer = (caller.functions.get(self._name) or caller.function(self._name, *self._types))(*args)
            except ffi.Trapped as trapped:
                self._cache.trapped(caller, trapped)
            except BaseException:
                self._cache.release(caller)
                raise
            if idle.over:
                self._cache.release(caller)
                return answer
            caller.calls += 1
            caller.since = monotonic()
            idle.append(caller)
            if idle.waiting or (len(idle) > 1 and self._cache.has_old()):  # a single one is this one
                self._cache.released()
            return answer
        finally:  # putting a caller back may run Go too
            mine["depth"] = 0


_INFINITE = float("inf")
_SIMPLY: dict[str, tuple[type, Any, Any]] = {
    **{go_type: (int, *numbers) for go_type, numbers in RANGES.items()}, "bool": (bool, 0, 1),
    "float64": (float, -_INFINITE, _INFINITE),
    "float32": (float, -FLOAT32_MAX, FLOAT32_MAX), "string": (bytes, 0, 0)}
