"""The model pool: N instances of a single-threaded module, and a queue of the free ones, as proxy-wasm and Extism do.

Up to N calls run at the same time. The instances share nothing, and which one a call gets is arbitrary. If the module
ends in one, that takes only its own call with it: the next call that needs the place gets a fresh instance.

Invariant: a place is in `_free`, or held by exactly one thread. In `_free` it is a member, or None if its module has
ended: the thread that takes None makes a fresh member. So a call that has ended never waits for the replacement.

Calls for the next items of an iterator must go to the instance that returned it (`_take_instance`). Invariants, under
the condition:
 1. A member that is `wanted` is taken by threads that want it, and by no others. So they wait for one call at most.
 2. `wanted` is the number of threads that wait for this member. When it is put back, or ends, all of them are woken.
 3. A member that is free and no longer wanted, because a thread has stopped waiting, is available to all; that thread
    wakes one that waits for any.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from gothreads.bridge.buffers import Guest
from gothreads.engine import ffi, interrupt
from gothreads.engine.settings import new_engine
from gothreads.engine.stack import initialising, inside
from gothreads.errors import CallersBusy, GothreadsError, GuestError, LimitExceeded, MisuseError, NotCallable, again
from gothreads.files import reason
from gothreads.runtime.app import App
from gothreads.runtime.cancellation import Cancellation
from gothreads.runtime.inspector import Goroutine, parse_goroutines
from gothreads.runtime.models.pool_member import PoolMember
from gothreads.runtime.models.single_instance import SingleInstance, SingleInstances
from gothreads.runtime.state import State
from gothreads.runtime.statistics import AppStatistics, PoolStatistics
from gothreads.shared_memory import BoundedMemory
from gothreads.sync.wait_queue import WaitQueue
from gothreads.text import shown
from gothreads.wasm.metadata import SINGLE

T = TypeVar("T")

log = logging.getLogger("gothreads")

_MORE_INSTANCES = "Raise `instances` (--instances), or make fewer calls at once"


class PoolApp(App):
    """See App. `memory` raises NotCallable: each instance has its own."""

    model = "pool"
    build_model = SINGLE
    has_many_instances = True

    def _make(self) -> None:
        loaded, options, owned = self.loaded, self.options, self._owned
        if options.listen:
            raise MisuseError("listen (--listen) needs a module that keeps running: in a pool, an instance is "
                              "suspended between calls, and accepts no connection")
        if loaded.entry == "_start":
            raise NotCallable(f"{loaded.name}: the module is a program: its main runs to its end, and takes no calls. "
                              "Build it with --buildmode c-shared")
        self._local = threading.local()  # `member`: the one that this thread is in
        self._main: PoolMember | None = None  # the one that the main thread is in
        lock = threading.RLock()
        self._condition = threading.Condition(lock)
        self._wanted_back = threading.Condition(lock)  # a member that is wanted has been put back, or has ended
        # Guarded by _condition. `_total` counts the places in `_free`, those that threads hold, and those being made.
        self._free: deque[PoolMember | None] = deque()
        self._members: dict[Guest, PoolMember] = {}  # all that have not ended, by their instances
        self._wait_queue = WaitQueue(self._condition, self._is_available)
        self._wait_for_one = WaitQueue(self._wanted_back, lambda: False)
        self._total = self._calls = self._replaced = 0
        self._engine = new_engine(options.limits.stack, threads=False, perf=options.perf)
        owned.callback(self._engine.close)
        self._instances = SingleInstances(self._engine, loaded, options, self._host)
        owned.callback(self._instances.close)
        self.compile_seconds = self._instances.compile_seconds
        owned.callback(self._close_members)

    @property
    def memory(self) -> BoundedMemory:
        raise NotCallable(f"{self.loaded.name}: in a pool each of the {self.options.instances} instances has a memory "
                          f"of its own")

    def statistics(self) -> AppStatistics:
        with self._condition:
            free = list(self._free)
            pool = PoolStatistics(self.options.instances, self._total, len(free), self._total - len(free),
                                  self._wait_queue.counts.waiting + self._wait_for_one.counts.waiting, self._replaced)
            size = sum(member.instance.memory.size for member in free
                       if member is not None) if self._state is State.RUNNING else 0
        return self._statistics(calls=self._calls, memory=size, memory_limit=self.options.limits.memory * pool.limit,
                                pool=pool)

    def _start(self) -> None:
        def start() -> None:
            missing = self.options.instances
            with self._condition:
                self._total = missing
            try:
                while missing:
                    made = self._new_member()
                    with self._condition:
                        self._free.append(made)
                    missing -= 1
            finally:
                with self._condition:
                    self._total -= missing
        self._call_threads.run(start)
        self._initialized()

    def _new_member(self) -> PoolMember:
        """A fresh instance, initialised and started."""
        member = PoolMember(self, self._instances)
        with initialising(self):
            try:
                # The end traps a store that was made before it; one made after it would run on, so check here.
                if self._cause is not None:
                    raise self._error()
                if self.loaded.entry is not None:
                    member.instance.function(self.loaded.entry)()
                member.instance.hook("start")
            except ffi.Trapped as trapped:
                error = member.ended(trapped) if self._cause is None else self._error()
                member.close()
                raise error from error.__cause__
            except BaseException:
                member.close()
                raise
        with self._condition:
            self._members[member.instance] = member
        return member

    def _call_back(self, call: Callable[[], Any]) -> Any:
        # Into the same instance: another has different state, and all may be in use.
        if inside.starting is self:  # a replacement is being started
            raise self._too_early()
        return self._guarded(call) if self._current_member() is not None else super()._call_back(call)

    def _current_member(self) -> PoolMember | None:
        """The member that this thread is in already, in a Python function that the member has called; else None."""
        return getattr(self._local, "member", None)

    def _run(self, work: Callable[[SingleInstance], T]) -> T:
        """Run `work` in a free instance, or in the one that this thread is in."""
        member = self._current_member()
        if member is None:
            return self._use(self._take(), work)
        # a nested call trapped: its state is inconsistent
        if member.instance.context.ended and member.cause is not None:
            raise again(member.cause)
        try:
            return work(member.instance)
        except ffi.Trapped as trapped:
            member.instance.context.ended = True
            if self._cause is not None:
                raise
            member.cause = error = member.ended(trapped)
            raise error from error.__cause__

    def _use(self, member: PoolMember, work: Callable[[SingleInstance], T]) -> T:
        """Run `work` in a member that was taken, and put it back."""
        before, whole = self._current_member(), True
        on_main = interrupt.on_main_thread()
        try:
            self._local.member = member
            if on_main:
                self._main = member
            try:
                return work(member.instance)
            finally:
                self._local.member = before
                if on_main:
                    self._main = before
        except ffi.Trapped as trapped:
            if self._cause is not None:
                raise
            error, whole = member.ended(trapped), False
            raise error from error.__cause__
        finally:
            # It may have been stopped too late for this call: then the next call would be hit.
            self._put_back(member if whole and (self._cause is not None or not member.stopped) else None, member)

    def _put_back(self, usable: PoolMember | None, member: PoolMember | None) -> None:
        """Give back a place: with its member, or empty if the member is no longer usable."""
        if usable is None and member is not None:
            try:
                member.close()
            except BaseException:  # a callback for a cancelled reply may raise SystemExit
                log.exception("%s: closing an instance that has ended", self.loaded.name)
        with self._condition:
            if usable is not None:
                self._free.append(usable)
            else:
                self._free.appendleft(None)  # taken last
            if usable is None and member is not None:
                self._replaced += 1
                self._members.pop(member.instance, None)
            if member is not None and member.wanted:
                self._wanted_back.notify_all()
            if usable is None or not usable.wanted:
                self._condition.notify()

    def _is_available(self) -> bool:
        """Whether a thread that wants any member could take one. Called under the condition."""
        return any(member is None or not member.wanted for member in self._free)

    def _take(self) -> PoolMember:
        def take(*, may_take: bool) -> list[PoolMember | None] | None:
            if self._cause is not None:
                raise ffi.Trapped(ffi.Trap("the app has ended"))
            if not may_take:
                return None
            for at in range(len(self._free) - 1, -1, -1):
                member = self._free[at]
                if member is None or not member.wanted:
                    del self._free[at]
                    self._calls += 1
                    return [member]
            return None
        with self._condition:
            taken = self._wait_queue.wait(take, self.options.callers_timeout)
        if taken is None:
            raise CallersBusy(f"all {self.options.instances} instances are in use, and none came free within "
                              f"{self.options.callers_timeout:g} s. {_MORE_INSTANCES}")
        return taken[0] or self._replacement()

    def _take_instance(self, instance: Guest) -> PoolMember:
        """The member with this instance, once it is free. GuestError: it has ended."""
        def take(*, may_take: bool) -> PoolMember | None:
            if self._cause is not None:
                raise ffi.Trapped(ffi.Trap("the app has ended"))
            if (member := self._living(instance)) not in self._free:
                return None
            self._free.remove(member)
            self._calls += 1
            return member
        with self._condition:
            member = self._living(instance)
            member.wanted += 1
            try:
                taken = self._wait_for_one.wait(take, self.options.callers_timeout)
            finally:
                member.wanted -= 1
                if not member.wanted and member in self._free:
                    self._condition.notify()
        if taken is None:
            raise CallersBusy(f"the instance that returned this iterator was in another call for "
                              f"{self.options.callers_timeout:g} s. {_MORE_INSTANCES}")
        return taken

    def _living(self, instance: Guest) -> PoolMember:
        """The member with this instance. GuestError: it has ended. Called under the condition."""
        if (member := self._members.get(instance)) is None:
            raise GuestError(f"{self.loaded.name}: the instance that returned this iterator has ended")
        return member

    def _replacement(self) -> PoolMember:
        """A fresh member for an empty place. If none can be made, the app ends; raises ffi.Trapped then."""
        made: PoolMember | None = None
        try:
            made = self._new_member()
            return made
        except Exception as error:  # also the system's: no descriptors, no memory. An earlier end stays the cause
            # A copy: the original's traceback keeps alive all that its frames refer to.
            self._end(again(error) if isinstance(error, GothreadsError)
                      else GothreadsError(f"{self.loaded.name}: cannot make another instance: "
                                          f"{reason(error) if isinstance(error, OSError) else error}"))
        finally:
            if made is None:
                self._put_back(None, None)
        raise ffi.Trapped(ffi.Trap("there can be no other instance"))

    def _within(self, work: Callable[[Guest], T]) -> T:
        return self._run(work)

    def _within_instance(self, instance: Guest, work: Callable[[Guest], T]) -> T:
        if (member := self._current_member()) is None:
            return self._use(self._take_instance(instance), work)
        if member.instance is not instance:  # which might be waiting for this one
            raise MisuseError(f"{self.loaded.name}: the iterator belongs to another instance of the pool than the call "
                              "that asks for its next item. Iterate outside of calls")
        return self._run(work)

    def _request(self, handler: str, payload: bytes, token: Cancellation | None = None) -> bytes:
        return self._run(lambda instance: instance.request(handler, payload, token))

    def _settled_handlers(self) -> list[str]:
        return self._run(SingleInstance.handlers)

    def _what_is_in_use(self) -> str | None:
        if self._in_use < self.options.instances:
            return super()._what_is_in_use()
        return f"all {self.options.instances} instances are in use. {_MORE_INSTANCES}"

    @property
    def _in_use(self) -> int:
        with self._condition:
            return self._total - len(self._free)

    def _stop_call(self, guest: Guest, cause: LimitExceeded) -> None:
        assert isinstance(guest, SingleInstance)
        guest.stop(cause)

    def _same_instance(self) -> bool:
        return self._current_member() is not None

    def _hook(self, name: str) -> None:
        """Calls `stop` in the instances that no call is in. `start` was called when each instance was made."""
        def stop(instance: SingleInstance) -> list[None]:
            instance.hook(name)
            return []
        if name == "stop":
            self._of_all_free(stop,
                              lambda error: log.warning("%s: the stop of one instance failed: %s", self.loaded.name,
                                                        shown(str(error))))

    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        """The goroutines of the instances that no call is in."""
        def stacks(instance: SingleInstance) -> list[Goroutine]:
            return parse_goroutines(instance.slot.stacks())
        if self._current_member() is not None:
            found: list[Goroutine] = self._guarded(lambda: self._of_all_free(stacks))
            return found
        return self._asked("goroutines()",
                           lambda token: self._of_all_free(lambda instance: token.use(instance, stacks)), timeout)

    def _wait_idle(self, timeout: float | None) -> None:
        """Run the instances that no call is in until all their goroutines wait."""
        def run(instance: SingleInstance) -> list[None]:
            instance.run_until_idle()
            return []
        self._asked("wait_idle()", lambda token: self._of_all_free(lambda instance: token.use(instance, run)),
                    timeout)

    def _of_all_free(self, work: Callable[[SingleInstance], list[T]],
                     failed: Callable[[GothreadsError], None] | None = None) -> list[T]:
        """Run `work` in each free instance, and return all results. The other instances take calls meanwhile.

        `failed` is called with each error; without it, the first error is raised.
        """
        with self._condition:
            members = [member for member in self._free if member is not None]
        found: list[T] = []
        for member in members:
            with self._condition:
                if self._cause is not None:
                    raise ffi.Trapped(ffi.Trap("the app has ended"))
                if member not in self._free:  # a call has taken it
                    continue
                self._free.remove(member)
            try:
                found += self._use(member, work)
            except GothreadsError as error:
                if failed is None:
                    raise
                failed(error)
        return found

    def _check_started(self) -> None:
        if inside.starting is self:  # also for a replacement: it may be the only instance
            raise self._too_early()

    def _stop_running(self) -> None:
        self._engine.increment_epoch()
        with self._condition:
            self._condition.notify_all()
            self._wanted_back.notify_all()

    def _run_handlers(self) -> bool:
        self._engine.increment_epoch()
        return True

    def _interrupted(self, error: BaseException | None) -> None:
        if (member := self._main) is not None:
            member.stop(self._reasons.of_stop(error))
        else:  # the main thread is starting an instance
            super()._interrupted(error)

    def _sweep_once(self) -> int:
        with self._condition:
            return self._total - len(self._free)

    def _close_members(self) -> None:
        with self._condition:  # statistics() reads the free members
            members = [member for member in self._free if member is not None]
            self._free.clear()
        for member in members:
            member.close()
