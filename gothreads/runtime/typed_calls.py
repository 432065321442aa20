"""Calls of typed functions: requests to their handlers, with what a request does on the fast path and on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from sys import modules
from typing import Any, NamedTuple

from gothreads.bridge import tracing
from gothreads.bridge.buffers import Failed, Guest, Message, Reply
from gothreads.errors import GothreadsError
from gothreads.runtime.calls import CallRunner
from gothreads.runtime.cancellation import Cancellation, OnTimeout, PendingCall
from gothreads.text import shown
from gothreads.typed.caller import Read


class AppCaller(NamedTuple):
    """Calls the typed functions of an app. See typed.caller.Caller.

    quickly: makes a request on the C fast path, or returns None. instance: that all calls go to; None: any.
    """

    app: CallRunner
    quickly: Callable[[str, bytes], bytes | None]
    instance: Guest | None = None

    @property
    def parks(self) -> bool:
        return self.app._parks

    def call(self, handler: str, message: Message) -> Reply:
        app = self.app
        if type(message) is bytes and not (tracing.API in modules and tracing.has_span()):
            try:
                if (answer := self.quickly(handler, message)) is not None:
                    return answer
            except GothreadsError as error:
                first = app._first(error)
                if isinstance(first, Failed):
                    app._reported(first.reply)
                raise first from first.__cause__
        reply: Reply = app._here_or_on_a_worker(lambda: self._call(handler, message)[0])
        return reply

    def submit(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Future[Any]:
        return self._waited(handler, message, read, options, here=False).future

    def wait(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Any:
        return self.app._result(self._waited(handler, message, read, options, here=True))

    def reduce(self, name: str) -> tuple[Any, ...]:
        return function_of, (self.app, name)

    def _call(self, handler: str, message: Message, token: Cancellation | None = None) -> tuple[Reply, AppCaller]:
        """Call a handler on this thread: its reply, and a caller of the instance that has replied.

        Raises ffi.Trapped, and CallGivenUp if its caller has given it up.
        """
        def call(guest: Guest) -> tuple[Reply, AppCaller]:
            try:
                reply: Reply = guest.slot.call(handler, message)
            except Failed as failed:
                self.app._reported(failed.reply)
                raise
            return reply, AppCaller(self.app, self.quickly, guest) if self.app.has_many_instances else self
        work = call if token is None else lambda guest: token.use(guest, call, request=True)
        if self.instance is None:
            return self.app._within(work)
        return self.app._within_instance(self.instance, work)

    def _waited(self, handler: str, message: Message, read: Read, options: Mapping[str, Any], *,
                here: bool) -> PendingCall:
        app = self.app

        def call(token: Cancellation) -> Any:
            return read(lambda: self._call(handler, message, token))
        name, functions = handler.partition(":")[2], app.functions
        return app._waited(f"the call of {shown(name)}", call, options.get("timeout"),
                           options.get("on_timeout", "cancel"), here=here, request=True,
                           takes_context=functions[name].schema.context if name in functions else None)


def function_of(app: Any, name: str) -> Any:
    """Called by unpickling: a typed function of an app, which is opened for it."""
    return app.functions[name]


def typed_options(timeout: float | None, on_timeout: OnTimeout) -> dict[str, Any]:
    """The options for a typed function, of those for any export: its context is cancelled, where an export goes on."""
    return {"timeout": timeout, "on_timeout": "cancel" if on_timeout == "continue" else on_timeout}
