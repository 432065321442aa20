"""How calls get into a module: on which thread they run, what they wait for, and how they are given up.

A thread may call the module itself if its stack is large enough for Go (`_here_or_on_a_worker`). All other calls run on
the app's own threads, in three groups that never wait for each other:

- `_call_threads`, for calls from outside;
- `_for_handlers`, for calls that handlers make: all workers may be in calls that wait for these handlers;
- `_nested`, for calls that a Python function makes while the module is calling it. These never queue: whoever has a
  thread or a caller may be waiting for this call.

A call that may be given up always runs on one of the app's threads (runtime/cancellation.py). If it finds that there is
nothing to return yet, it is made again later (runtime/parked_calls.py): meanwhile it has neither a thread nor a caller.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from gothreads.bridge import tracing
from gothreads.bridge.buffers import Guest
from gothreads.bridge.exports import Export
from gothreads.engine import ffi, interrupt, stack
from gothreads.engine.call_threads import Call, CallThreads
from gothreads.errors import (
    MORE_CALLERS,
    AppClosed,
    CallersBusy,
    GothreadsError,
    LimitExceeded,
    MisuseError,
    NotCallable,
)
from gothreads.runtime import cancellation
from gothreads.runtime.cancellation import Cancellation, OnTimeout, PendingCall
from gothreads.runtime.lifecycle import Lifecycle
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.parked_calls import ParkedCalls, Repeated
from gothreads.runtime.state import State
from gothreads.sync.deadlines import Deadline
from gothreads.typed.namespace import Functions

T = TypeVar("T")

#: How long after its timeout a call may be in the module before the log says so: a handler with a context needs a
#: moment to return.
_OVERDUE_SECONDS = 1.0


class CallRunner(Lifecycle):
    """Runs calls into a module. A "call" here is a function that does the work on the thread that runs it."""

    functions: Functions  # set by App
    #: Whether calls may be parked: the module runs on when no call is inside.
    _parks = False

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        super().__init__(loaded, options)
        self._call_threads = CallThreads(options.callers, options.limits.stack)
        self._nested = CallThreads(None, options.limits.stack)
        self._for_handlers = CallThreads(options.callers, options.limits.stack)
        self._parked = ParkedCalls(lambda: self._cause is not None)
        self.when_ended(self._parked.wake_all)

    # Implemented by the models.

    @abstractmethod
    def _within(self, work: Callable[[Guest], T]) -> T:
        """Run `work` in the module on this thread, which has the instance to itself. Raises ffi.Trapped."""

    @property
    @abstractmethod
    def _in_use(self) -> int:
        """How many threads are in calls into the module."""

    def _within_instance(self, _instance: Guest, work: Callable[[Guest], T]) -> T:
        """The same in the instance that an earlier call was in."""
        return self._within(work)

    def _same_instance(self) -> bool:
        """Whether the calling thread is already in the instance that its calls go into."""
        return False

    def _stop_call(self, guest: Guest, cause: LimitExceeded) -> None:
        """End the instance that a call is in (here, the whole app). From any thread; returns at once."""
        self._end(cause)

    def _reported(self, text: bytes) -> None:
        """Log how to mount the paths that this text, an error that the module has returned, says are missing."""

    # The calls themselves.

    def _call(self, export: Export, converted: list[Any], token: Cancellation | None = None) -> Any:
        """Call an export on this thread. Raises ffi.Trapped, and CallGivenUp if its caller has given it up."""
        def call(guest: Guest) -> Any:
            return export.call(guest.function(export.name, export.params, export.result), converted, guest.slot)
        return self._within(call if token is None else lambda guest: token.use(guest, call))

    def _request(self, handler: str, payload: bytes, token: Cancellation | None = None) -> bytes:
        """Call a handler on this thread. Raises as _call."""
        def request(guest: Guest) -> bytes:
            return guest.slot.request(handler, payload)
        return self._within(request if token is None else lambda guest: token.use(guest, request, request=True))

    def _handlers(self, token: Cancellation | None = None) -> list[str]:
        """The names of the handlers that are registered now. Raises as _call."""
        def handlers(guest: Guest) -> list[str]:
            return guest.slot.handlers()
        return self._within(handlers if token is None else lambda guest: token.use(guest, handlers))

    # On this thread, or on one of the app's own.

    def _call_export(self, export: Export, converted: list[Any], timeout: float | None = None,
                     on_timeout: OnTimeout = "continue") -> Any:
        if timeout is None and on_timeout == "continue":
            return self._here_or_on_a_worker(lambda: self._call(export, converted))
        return self._result(self._waited_call(export, converted, timeout, on_timeout, here=True))

    def _here_or_on_a_worker(self, call: Callable[[], Any]) -> Any:
        self._check_takes_calls()
        if interrupt.in_handler_of(self):
            raise MisuseError(f"{self.loaded.name}: a signal handler cannot call the module in the middle of a call: "
                              "the module stands still meanwhile. Use submit(), or signal()")
        if stack.inside.depth:
            self._check_started()
            return self._call_back(call)
        # The stack of this thread may be too small for what Go may use.
        if not stack.fits(self.options.limits.stack) or self._main_stays_out():
            return self._submit(call).result()
        if stack.inside.lend is None:
            return self._guarded(call)
        with stack.inside.lend():
            return self._guarded(call)

    def _main_stays_out(self) -> bool:
        """Whether this is the main thread, and must not run the module's code: signal handlers could not interrupt it.
        """
        return not self.options.main_calls and interrupt.on_main_thread()

    def _call_back(self, call: Callable[[], Any]) -> Any:
        """Run a call made by a Python function that the module has called.

        It runs on another thread, since how much stack this one has left is unknown. It never queues for a thread or a
        caller: those that have one may be waiting for this call.
        """
        return self._submit_to(self._nested, _as_nested(call)).result()

    def _submit(self, call: Callable[[], Any]) -> Call:
        """Run a call on one of the app's threads. If the app has ended, raises its cause."""
        return self._submit_to(*self._threads_for(call, inside=False))

    def _threads_for(self, call: Callable[[], Any], *, inside: bool) -> tuple[CallThreads, Callable[[], Any]]:
        """What is to run a call, and the call, as it runs there. If the app has ended, raises its cause.

        inside: it is made by a Python function that the module has called, which waits for it.
        """
        if inside:
            return self._nested, _as_nested(call)
        self._check_takes_calls()
        if stack.nested.get():  # from a handler: all other workers may be in calls that wait for it
            return self._for_handlers, _as_nested(call)
        return self._call_threads, call

    def _submit_to(self, workers: CallThreads, call: Callable[[], Any]) -> Call:
        if self._cause is not None:
            raise self._error()
        call = tracing.carried(call)
        try:
            if not interrupt.on_main_thread():
                return workers.submit(lambda: self._guarded(call))
            with interrupt.Postponed():  # interrupted halfway, it would count a thread that does not exist
                return workers.submit(lambda: self._guarded(call))
        except AppClosed:
            raise self._error() from None

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Run a call. A trap in it ends the app.

        Once the app has ended, whatever the call raises is replaced by the app's first cause.
        """
        if self._state is not State.RUNNING:
            self._wait_until_running()
        if not interrupt.on_main_thread():
            return self._inside(call)
        with interrupt.Postponed(self):
            return self._inside(call)

    def _inside(self, call: Callable[[], Any]) -> Any:
        stack.check_python_stack()
        with stack.in_module:
            try:
                return call()
            except ffi.Trapped as trapped:
                self._trapped(trapped)
                error = self._error()
                raise error from error.__cause__
            except GothreadsError as failed:
                if (first := self._first(failed)) is failed:
                    raise
                raise first from first.__cause__

    def _first(self, error: GothreadsError) -> GothreadsError:
        """What a call raises: the app's cause if it has ended, else the call's own error."""
        return error if self._cause is None else self._error()

    # Calls that may be given up.

    def _waited_call(self, export: Export, converted: list[Any], timeout: float | None, on_timeout: OnTimeout, *,
                     here: bool = False) -> PendingCall:
        return self._waited(f"the call of {export.name}", lambda token: self._call(export, converted, token),
                            timeout, on_timeout, here=here)

    def _waited(self, what: str, call: Callable[[Cancellation], Any], timeout: float | None, on_timeout: OnTimeout, *,
                here: bool, request: bool = False, takes_context: bool | None = None) -> PendingCall:
        """Run a call on one of the app's threads, so that it can be given up. `here`: this thread waits for it.

        takes_context: whether what it calls has a context, if that is known.
        """
        cancellation.checked(timeout, on_timeout, request=request)
        if self._same_instance():
            raise MisuseError(f"{self.loaded.name}: {what} comes from inside a call into the same instance, which "
                              "cannot go on before it is over: it can have no timeout, and no future")

        def stop(guest: Guest) -> None:
            given_up = f"{self.loaded.name}: the module was stopped: {what} was given up"
            self._stop_call(guest, LimitExceeded(given_up, 124))
        deadline = time.monotonic() + timeout if request and timeout is not None and on_timeout != "continue" else None
        token = Cancellation(on_timeout, stop, "its instance" if self.has_many_instances else "the module", deadline,
                             takes_context)
        waited = PendingCall(token, f"{self.loaded.name}: {what}", self._what_is_busy)
        inside = here and stack.inside.depth > 0
        self._check_started()
        busy = self.options.callers_timeout
        deadlines: list[Deadline] = []

        def call_off() -> None:
            for deadline in deadlines:
                self._deadlines.cancel(deadline)

        def over(done: Future[Any]) -> None:
            call_off()
            if timeout is not None and waited.is_late(done):
                waited.timed_out(timeout)
            waited.settle(done)

        def timed_out(seconds: float) -> None:
            waited.timed_out(seconds)
            if on_timeout != "stop":
                self._deadlines.after(_OVERDUE_SECONDS, waited.tell_if_inside)
        try:  # the deadlines first: if they cannot be set, the call is not made
            if timeout is not None:
                deadlines.append(self._deadlines.after(timeout, lambda: timed_out(timeout)))
            if busy is not None and not inside:
                deadlines.append(self._deadlines.after(busy, lambda: waited.fail_waiting(self._busy(busy))))
            threads, work = self._threads_for(lambda: call(token), inside=inside)
            work = tracing.carried(work)
            # Again also while the app waits for calls in flight: this is one.
            Repeated(self._parked, token, lambda: self._submit_to(threads, work), over).make()
        except BaseException:
            call_off()
            raise
        return waited

    def _asked(self, what: str, ask: Callable[[Cancellation], T], timeout: float | None) -> T:
        """Ask the module something, on one of the app's threads. After the timeout, give up and raise CallTimeout."""
        answer: T = self._result(self._waited(what, ask, timeout, "continue", here=False))
        return answer

    @staticmethod
    def _result(waited: PendingCall) -> Any:
        try:
            return waited.future.result()
        except BaseException:
            waited.future.cancel()  # Ctrl-C: nobody waits any more
            raise

    def _what_is_busy(self) -> str | None:
        """Why calls cannot begin now, and how to change that; None if they can."""
        if self._state is State.STARTING:
            return "Go's packages are still being initialised"
        return self._what_is_in_use()

    def _what_is_in_use(self) -> str | None:
        """What all calls need, if other calls have it; else None."""
        if self._in_use < self.options.callers:
            return None
        return f"all {self.options.callers} callers are in use. {MORE_CALLERS}"

    def _busy(self, seconds: float) -> CallersBusy:
        return CallersBusy(f"{self.loaded.name}: all {self.options.callers} callers are in use, and none came free "
                           f"within {seconds:g} s. {MORE_CALLERS}")

    # Whether a call may begin.

    def _wait_until_running(self) -> None:
        self._ready.wait()
        if self._cause is not None:
            raise self._error()

    def _check_started(self) -> None:
        """NotCallable if this thread is initialising the module's packages: the call would wait for itself."""
        if stack.inside.starting is self and self._state is State.STARTING:
            raise self._too_early()

    def _too_early(self) -> NotCallable:
        return NotCallable(f"{self.loaded.name}: a Python function that is called while Go's packages are initialised "
                           "cannot call exports yet")

    def _check_takes_calls(self) -> None:
        """For a call that begins, raises the app's cause if it has ended.

        AppClosed while close(drain=…) waits for calls in flight, except for calls made from inside these.
        """
        if self._cause is not None:
            raise self._error_afterwards()
        if self._state is State.DRAINING and not stack.inside.depth and not stack.nested.get():
            raise AppClosed(f"{self.loaded.name}: the app is being closed, and takes no new calls")

    def _check_go(self, what: str) -> None:
        """NotCallable if the module was not built from Go: only Go modules have `what`."""
        if self.loaded.foreign:
            raise NotCallable(f"{self.loaded.name}: the module was not built from Go, so it has no {what}")

    # The end.

    def _in_flight(self) -> int:
        groups = (self._call_threads, self._nested, self._for_handlers)
        return len(self._parked) + self._in_use + sum(threads.pending for threads in groups)

    def _abandon_calls(self) -> None:
        for threads in (self._call_threads, self._nested, self._for_handlers):
            threads.abandon(self._error)

    def _close_call_threads(self) -> None:
        """End the threads that run submitted calls."""
        self._call_threads.close()
        self._nested.close()
        self._for_handlers.close()
        self._messages.handlers.close()


def _as_nested(call: Callable[[], Any]) -> Callable[[], Any]:
    """Mark a call as nested. For threads that run nothing else."""
    def nested() -> Any:
        stack.nested.set(True)
        return call()
    return nested
