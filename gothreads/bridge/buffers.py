"""Bytes between the host and Go: the host's side of gothreads/guest (slot_wasip1.go), which has the rules of ownership."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from gothreads.engine import ffi
from gothreads.engine.callers import BuffersBase
from gothreads.errors import ArgumentError, HandlerError, MemoryAccessError, ModuleError, unknown

#: Replies above this size are let go of at once, not at the slot's next use. Bytes.
KEEP = 64 << 10
#: The most that one request or reply may be, in bytes: WebAssembly's 32-bit lengths, less room for names.
LARGEST = (1 << 31) - (1 << 16)
#: How many bytes of names of handlers are believed.
_MOST_NAMES = 1 << 20


class RequestStatus(IntEnum):
    """The guest's word for how a request went."""

    OK = 0
    ERROR = 1
    UNKNOWN = 2


_header = struct.Struct("<III")


class ReadWriteMemory(Protocol):
    """What slots need of a memory: SharedMemory has it, and so has a single-threaded module's."""

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...


class Guest(Protocol):
    """An instance that runs the module's exports, for one thread at a time, with its slot."""

    slot: Buffers

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function: ...


#: Tells the module that nobody waits for a request any more: the slot's address, and which of its requests.
Cancel = Callable[[int, int], None]


class Buffers(BuffersBase):
    """One caller's slot, opened at its first use. Used by one thread at a time, but for `cancel`.

    `function(name, params, result)` looks up an export of the caller's instance. All methods raise ffi.Trapped.
    """

    def __init__(self, function: Callable[[str, str, str], ffi.Function], memory: ReadWriteMemory, cancel: Cancel | None = None) -> None:
        super().__init__()
        self.function, self.memory, self._cancel = function, memory, cancel

    def put(self, data: bytes, where: str = "gothreads_buffer") -> int:
        """Copy bytes to where Go can see them; returns the address. Good for one exported call, or one request.

        where: the function that gives the place.
        """
        if len(data) > LARGEST:
            raise ArgumentError(f"{len(data):,} bytes are too many for one call: at most {LARGEST:,}")
        slot = self.opened()  # first: it says when the module has no gothreads/guest
        address: int = self.function(where, "II", "I")(slot, len(data))
        try:
            self.memory.write(address, data)
        except MemoryAccessError as error:
            raise MemoryAccessError(f"the module has given a place for {len(data):,} bytes that is not in its memory: {error}") from None
        return address

    def request(self, handler: str, payload: bytes) -> bytes:
        """Call a handler. HandlerError with its error's text; UnknownExport when there is none of that name."""
        name = handler.encode()
        self.put(name + payload, "gothreads_payload")
        self.requests = self.requests % 0xFFFFFFFF + 1  # as Go counts them, in 32 bits, from 1
        self.function("gothreads_request", "II", "")(self.opened(), len(name))
        return self.answer(handler)

    def answer(self, handler: str) -> bytes:
        """What the request has come to that was just made."""
        status, reply = self._reply()
        match status:
            case RequestStatus.OK:
                return reply
            case RequestStatus.ERROR:
                raise HandlerError(reply.decode(errors="replace"))
            case RequestStatus.UNKNOWN:
                raise unknown("handler", handler, _names(reply))
            case _:
                raise HandlerError(f"the module answered a request with status {status}, which means nothing")

    def handlers(self) -> list[str]:
        """The names of the handlers that are registered now."""
        slot = self.opened()
        self.function("gothreads_handlers", "I", "")(slot)
        return _names(self._reply()[1])

    def stacks(self) -> str:
        """Go's traceback of all goroutines."""
        slot = self.opened()
        self.function("gothreads_stacks", "I", "")(slot)
        return self._reply()[1].decode(errors="replace")

    def release(self) -> None:
        """Let go of the reply."""
        self.function("gothreads_release", "I", "")(self.opened())

    def close(self) -> None:
        """Give the slot back."""
        if self.address:
            self.function("gothreads_slot_close", "I", "")(self.address)
            self.address, self.requests = 0, 0

    def cancel(self, request: int) -> None:
        """Nobody waits for that request any more. From any thread, while the request is under way."""
        if self._cancel is not None and self.address:
            self._cancel(self.address, request)

    def opened(self) -> int:
        """Its address in the module."""
        if not self.address:
            try:
                open_ = self.function("gothreads_slot_open", "", "I")
            except ffi.Missing:
                raise ModuleError("the module has no gothreads/guest in it, which strings and requests need. Build it with: gothreads build") from None
            self.address = open_()
        return self.address

    def _reply(self) -> tuple[int, bytes]:
        # Copy first, then believe: the module could change what is in its memory at any time.
        try:
            status, address, length = _header.unpack(self.memory.read(self.opened(), _header.size))
            if length > LARGEST:
                raise HandlerError(f"the module's answer has {length:,} bytes; at most {LARGEST:,}")
            reply = self.memory.read(address, length) if length else b""
        except MemoryAccessError as error:
            raise MemoryAccessError(f"the module's answer is not in its memory: {error}") from None
        if length > KEEP:
            self.release()
        return status, reply


def _names(reply: bytes) -> list[str]:
    """HandlerError when there are more than anybody would register."""
    if len(reply) > _MOST_NAMES:
        raise HandlerError(f"the module says that it has {len(reply):,} bytes of names of handlers; at most {_MOST_NAMES:,}")
    return reply.decode(errors="replace").split("\n") if reply else []
