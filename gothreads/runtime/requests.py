"""Requests to an app's handlers, also to those that main has yet to register, and the list of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from sys import modules
from typing import TYPE_CHECKING, Any, TypeVar

from gothreads.bridge import tracing
from gothreads.bridge.exports import Exports
from gothreads.errors import (
    GothreadsError,
    HandlerError,
    NotCallable,
    UnknownExport,
    drop_frames,
    hides_frames,
    unknown,
)
from gothreads.runtime import cancellation
from gothreads.runtime.calls import CallRunner
from gothreads.runtime.cancellation import Cancellation, OnTimeout, PendingCall
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.payloads import Payload, bytes_of, file_of, handler_name
from gothreads.runtime.settling import SETTLE_SECONDS, Settling
from gothreads.runtime.typed_calls import AppCaller
from gothreads.text import closest, cut

if TYPE_CHECKING:
    from gothreads.bridge.buffers import Reply
    from gothreads.typed.caller import Caller
    from gothreads.typed.parking import Wait
    from gothreads.typed.streams import ByteStream

T = TypeVar("T")

#: What Go says of a main that waits for events or connections; and how long to wait for the answer, in seconds.
_SERVES = frozenset(("select", "select (no cases)", "chan receive", "IO wait"))
_LOOK_SECONDS = 0.5
#: The request for the names of the handlers that stream (build/goroot/gothreads/guest/slot/handlers.go).
_STREAMS = "gothreads:streams"


class Requests(CallRunner):
    """See App, of which this is a part."""

    model: str
    exports: Exports

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        super().__init__(loaded, options)
        self._settling: Settling | None = None  # in models where main runs on and may register handlers

    # Implemented by the models.

    def _request_quickly(self, handler: str, payload: Payload) -> bytes | None:
        """Make a request on the C fast path; None if the model has none or the case is uncommon."""
        return None

    @abstractmethod
    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        """See goroutines."""

    def _settled_handlers(self) -> list[str]:
        """Like _handlers, but in models where goroutines run only during calls, runs those of init functions first.

        Raises ffi.Trapped.
        """
        return self._handlers()

    # What programs call.

    def request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                on_timeout: OnTimeout = "cancel") -> bytes:
        if timeout is None and on_timeout == "cancel" and not (tracing.API in modules and tracing.has_span()):
            try:
                if (answer := self._request_quickly(handler, payload)) is not None:
                    return answer
            except UnknownExport:
                pass  # perhaps not registered yet: asked again below
            except GothreadsError as error:
                first = self._first(error)
                drop_frames(first)
                if first is error:
                    self._name_handler(error, handler)
                    raise
                try:
                    raise first from first.__cause__
                finally:
                    del first  # the traceback has this frame, and with it the payload
        return self._request_slowly(handler, payload, timeout, on_timeout)

    @hides_frames
    def _request_slowly(self, handler: str, payload: Payload, timeout: float | None, on_timeout: OnTimeout) -> bytes:
        self._check_go("handlers")
        handler, data = handler_name(handler), bytes_of(payload)
        if timeout is None:
            cancellation.checked(timeout, on_timeout, request=True)

            def request() -> bytes:
                return bytes(self._here_or_on_a_worker(lambda: self._request(handler, data)))
            return self._registered_by_main(handler, request)  # waits outside the call, where Ctrl-C would end the app
        return bytes(self._result(self._waited_request(handler, data, timeout, on_timeout, here=True)))

    def submit_request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                       on_timeout: OnTimeout = "cancel") -> Future[bytes]:
        self._check_go("handlers")
        return self._waited_request(handler_name(handler), bytes_of(payload), timeout, on_timeout).future

    async def request_async(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                            on_timeout: OnTimeout = "cancel") -> bytes:
        return await asyncio.wrap_future(self.submit_request(handler, payload, timeout=timeout, on_timeout=on_timeout))

    def stream(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
               on_timeout: OnTimeout = "cancel") -> ByteStream:
        stream: ByteStream = self._result(self._waited_stream(handler, body, timeout, on_timeout, here=True))
        return stream

    def submit_stream(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
                      on_timeout: OnTimeout = "cancel") -> Future[ByteStream]:
        return self._waited_stream(handler, body, timeout, on_timeout, here=False).future

    def _waited_stream(self, handler: str, body: Payload | Any, timeout: float | None, on_timeout: OnTimeout, *,
                       here: bool) -> PendingCall:
        self._check_go("handlers")
        handler, body = handler_name(handler), file_of(body)
        opening = importlib.import_module("gothreads.typed.handler_streams").Opening(handler, body, parks=self._parks)

        def stream(token: Cancellation) -> ByteStream | Wait:
            def call() -> tuple[Reply, Caller]:
                try:
                    return AppCaller(self, self._request_quickly)._call(opening.handler, opening.message, token)
                except UnknownExport as error:
                    if handler in error.known:
                        raise NotCallable(f"{self.loaded.name}: the handler {cut(handler)} takes its payload as a "
                                          "whole, and does not stream: call request(), or register it with "
                                          "guest.HandleStream") from None
                    raise unknown("handler", handler, error.known) from None
            opened: ByteStream | Wait = self._registered_by_main(handler, lambda: opening.read(call), token)
            return opened

        def over(done: Future[ByteStream]) -> None:
            if done.cancelled() or done.exception() is not None:
                opening.close()
        try:
            waited = self._waited(f"the stream of {handler}", stream, timeout, on_timeout, here=here, request=True)
        except BaseException:
            opening.close()
            raise
        waited.future.add_done_callback(over)
        return waited

    async def _streaming_handlers(self) -> list[str]:
        """Those of the registered handlers that stream."""
        if not self.loaded.may_stream:
            return []
        waited = self._waited("the list of handlers", self._those_that_stream, None, "cancel", here=False, request=True)
        names: list[str] = await asyncio.wrap_future(waited.future)
        return names

    def _those_that_stream(self, token: Cancellation) -> list[str]:
        return self._request(_STREAMS, b"", token).decode(errors="replace").splitlines()

    def _submit_kinds(self, handler: str, *, timeout: float | None,
                      on_timeout: OnTimeout) -> Future[tuple[frozenset[str], frozenset[str]]]:
        """The registered handlers that take their payload as a whole, and those that stream; for a request to one."""
        def kinds(token: Cancellation) -> tuple[frozenset[str], frozenset[str]]:
            names = frozenset(self._handlers(token))  # first: what comes meanwhile is in no set, or streams
            streaming = frozenset(self._those_that_stream(token))
            return names - streaming, streaming
        return self._waited(f"the request to {handler}", kinds, timeout, on_timeout, here=False, request=True).future

    def handlers(self) -> list[str]:
        return self._listed(self._here_or_on_a_worker)

    async def handlers_async(self) -> list[str]:
        if self.loaded.metadata is None:
            return []

        def listed(token: Cancellation) -> list[str]:
            return self._listed(lambda work: work(), token=token)
        waited = self._waited("the list of handlers", listed, None, "continue", here=False)
        names: list[str] = await asyncio.wrap_future(waited.future)
        return names

    def _waited_request(self, handler: str, payload: bytes, timeout: float | None, on_timeout: OnTimeout, *,
                        here: bool = False) -> PendingCall:
        def request(token: Cancellation) -> bytes:
            return self._registered_by_main(handler, lambda: self._request(handler, payload, token), token)
        return self._waited(f"the request to {handler}", request, timeout, on_timeout, here=here, request=True)

    def _registered_by_main(self, handler: str, ask: Callable[[], T], token: Cancellation | None = None) -> T:
        """Return `ask()`, which asks for a handler. While main may still register the handler, wait and ask again."""
        settling = self._settling
        while True:
            settled = settling is None or settling.settled(handler)  # read before asking: see runtime/settling.py
            try:
                return ask()
            except UnknownExport as error:
                if settling is None or settled:
                    raise UnknownExport(error.message, error.known, self._why_unknown(handler, error.known)) from None
            except GothreadsError as error:
                self._name_handler(error, handler)
                raise
            if token is not None:
                token.wants(handler)
            settling.wait(handler, token)

    def _name_handler(self, error: GothreadsError, handler: str) -> None:
        """Note where a handler's error comes from. A note, since `str(error)` is what the handler says."""
        if isinstance(error, HandlerError):
            self._reported(str(error).encode(errors="replace"))
            error.add_note(f"from the handler {cut(handler)} of {self.loaded.name}")

    def _why_unknown(self, handler: str, known: Sequence[str]) -> str:
        """Why there may be no handler of that name, and how to mend it: sentences to follow the error, or ""."""
        if handler in self.exports:
            how = f".{handler}" if handler.isidentifier() else f"[{cut(handler)}]"
            return f". There is an export of that name: app.exports{how}(…)"
        if closest(handler, known) is not None:
            return ""  # the error names it
        if self.loaded.entry == "_initialize" and not self.loaded.foreign:
            where = f"the model {self.model}"
            if self.loaded.threaded:
                where = "a module built with --buildmode c-shared"
            return f". main does not run in {where}: register handlers in an init function"
        if self._settling is not None and self._settling.is_busy() and not (known and self._main_serves()):
            return (f". {SETTLE_SECONDS:g} s after its start the module was still busy, and requests do not wait "
                    "longer: register handlers before work that takes long")
        return ""

    def _main_serves(self) -> bool:
        """Whether main waits for events or connections, so that it has probably registered what it has."""
        with contextlib.suppress(GothreadsError, TimeoutError):
            return any(goroutine.id == 1 and goroutine.state.partition(",")[0] in _SERVES
                       for goroutine in self._goroutines(_LOOK_SECONDS))
        return False

    def _listed(self, run: Callable[[Callable[[], list[str]]], list[str]], wanted: str | None = None,
                token: Cancellation | None = None) -> list[str]:
        """The names of the handlers. Waits for those that main has yet to register, until `wanted` is among them.

        `run` makes the call that asks the module for them.
        """
        if self.loaded.metadata is None:
            return []
        names = run(lambda: self._handlers(token))
        if wanted in names:
            return names
        if self._settling is not None:
            self._settling.wait(wanted, token)
        return run(self._settled_handlers)

    def _has_settled(self) -> bool:
        """Whether main has registered the handlers that it registers by itself."""
        return self._settling is None or not self._settling.is_busy()

    def _expect(self, handlers: Iterable[str]) -> None:
        """Wait for these handlers even when every goroutine waits: an earlier instance had them."""
        if self._settling is not None:
            self._settling.expected = frozenset(handlers)
