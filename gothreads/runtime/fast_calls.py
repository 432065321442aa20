"""Calls that need nothing but a caller at rest: in C (gothreads/csrc), and the same in Python where C was not built.

What is unusual goes the long way (runtime/app.py): a named argument, an app that does not run, a thread that is inside already or has a small stack, a
cache without an idle caller, a door that those who wait have closed (sync/wait_queue.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any

from gothreads.bridge.exports import FLOAT32_MAX, RANGES, Export, Function
from gothreads.callback_m import CallbackMCache
from gothreads.engine import ffi, interrupt
from gothreads.engine.extension import compiled
from gothreads.engine.stack import CALLER_MARGIN, few_frames, inside

#: The most values that a call in C has.
_MOST = 8
#: How often it is looked whether Python's stack has room: see has_frames in csrc/calls.c.
_LOOK_SECONDS = 5e-6


def quick(function: Function, export: Export, cache: CallbackMCache, postponed: interrupt.Postponed, stack: int) -> Function:
    """The same function, with calls that take the short way where they can. `postponed` is around those on the main thread; `stack` as for stack.fits."""
    if compiled is None:
        return _Quick(function, export, cache, postponed, stack)
    if export.has_strings or len(export.params) > _MOST:
        return function
    made: Function = compiled.Export(function, cache.rest, export.name, export.params, export.result)
    return made


def requester(cache: CallbackMCache) -> Callable[[str, Any], bytes | None]:
    """Makes requests (of a handler, with a payload) in C where all is as usual; None where not."""
    if compiled is None:
        return lambda handler, payload: None
    return functools.partial(compiled.request, cache.rest)


class _Quick(Function):
    """What csrc/ does, step by step (take, begin, run, end); the reasons are there. Nothing is called that can be done here: that is most of it."""

    def __init__(self, function: Function, export: Export, cache: CallbackMCache, postponed: interrupt.Postponed, stack: int) -> None:
        self.__dict__.update(function.__dict__)
        self._cache, self._rest, self._pop, self._postponed, self._room = cache, cache.rest, cache.rest.pop, postponed, stack + CALLER_MARGIN
        self._name, self._types = export.name, (export.params, export.result)
        #: For each argument, of which type it simply is, and between which numbers; others are converted, or refused, by `super`.
        self._simply = [_SIMPLY[parameter.type] for parameter in export.signature.params]
        self._count = -1 if export.has_strings else len(self._simply)

    def __call__(self, *args: Any, **named: Any) -> Any:
        rest, mine = self._rest, inside.__dict__  # the thread's own: each look at a threading.local finds it anew
        if named or len(args) != self._count or not rest.open or rest.passed or mine.get("room", 0) < self._room or mine.get("depth"):
            return super().__call__(*args, **named)
        for value, (kind, least, most) in zip(args, self._simply, strict=True):
            if type(value) is not kind or not least <= value <= most:
                return super().__call__(*args)
        now = monotonic()
        if now - mine.get("looked", 0.0) >= _LOOK_SECONDS:
            if not few_frames():
                return super().__call__(*args)
            mine["looked"] = now
        if get_ident() != interrupt.MAIN:
            return self._run(args, mine, now)
        if now >= interrupt.next_look:
            return super().__call__(*args)
        interrupt.begin(self._postponed)  # from here on no KeyboardInterrupt comes, which would lose a caller that was taken
        try:
            return self._run(args, mine, now)
        finally:
            interrupt.end()

    def _run(self, args: tuple[Any, ...], mine: dict[str, Any], now: float) -> Any:
        rest = self._rest
        try:
            caller = self._pop()
        except IndexError:
            return super().__call__(*args)
        if not rest.open:  # looked at after it was taken: see callback_m._take_idle
            rest.append(caller)
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
            if rest.over:
                self._cache.release(caller)
                return answer
            caller.calls += 1
            caller.since = monotonic()
            rest.append(caller)
            if rest.waiting or (len(rest) > 1 and self._cache.has_old()):  # one by itself is this one
                self._cache.released()
            return answer
        finally:  # what puts a caller back may run Go too
            mine["depth"] = 0


_INFINITE = float("inf")
_SIMPLY: dict[str, tuple[type, Any, Any]] = {
    **{go_type: (int, *numbers) for go_type, numbers in RANGES.items()}, "bool": (bool, 0, 1), "float64": (float, -_INFINITE, _INFINITE),
    "float32": (float, -FLOAT32_MAX, FLOAT32_MAX), "string": (bytes, 0, 0)}
