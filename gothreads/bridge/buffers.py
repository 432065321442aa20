"""Passing bytes between the host and Go: the host's side of gothreads/guest.

The rules of ownership are in gothreads/build/goroot/gothreads/guest/slot/slot.go.
"""

from __future__ import annotations

import array
import math
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from gothreads.bridge import tracing
from gothreads.engine import ffi
from gothreads.engine.callers import Slot
from gothreads.engine.extension import shared
from gothreads.errors import ArgumentError, HandlerError, MemoryAccessError, ModuleError, unknown
from gothreads.wasm.abi import TIME_LEFT, TRACED_REQUEST

#: Replies above this size are freed at once, not at the slot's next use. Bytes.
KEEP = shared("KEEP", 64 << 10)
#: The largest request or reply, in bytes: WebAssembly's 32-bit lengths, less room for names.
LARGEST = shared("LARGEST", (1 << 31) - (1 << 16))
#: The most bytes of handler names that are accepted from a module.
_MOST_NAMES = 1 << 20


class RequestStatus(IntEnum):
    """The outcome of a request, as the guest encodes it."""

    OK = 0
    ERROR = 1
    UNKNOWN = 2
    REFUSED = 3
    FAILED = 4
    PARTS = 5


#: A message with parts begins with this byte, which MessagePack never uses (wire/reader.go).
_PARTS_MARK = 0xC1
#: Of a message with parts: the mark, three zeros, the length of the head, where the parts begin.
_parts_header = struct.Struct("<B3xII")
#: Parts are aligned so, for numbers of every size.
PART_ALIGNMENT = 8


#: The typecodes of array.array for kinds of numbers, from kind 1 on (wire/numbers.go).
NUMBER_CODES = "bBhHiIqQfd"


@dataclass(frozen=True)
class Parts:
    """A message to a typed function, with parts beside it, which are copied once.

    It refers to a part by its place behind the first.
    """

    head: bytes
    parts: Sequence[bytes | memoryview]

    def pieces(self, name: bytes) -> list[bytes | memoryview]:
        """What follows each other in a request to the handler of that name, its name included."""
        begin = _parts_header.size + len(self.head)
        begin += -(len(name) + begin) % PART_ALIGNMENT
        head = name + _parts_header.pack(_PARTS_MARK, len(self.head), begin) + self.head
        pieces: list[bytes | memoryview] = [head.ljust(len(name) + begin, b"\0")]
        for part in self.parts:
            pieces.append(part)
            if rest := -len(part) % PART_ALIGNMENT:
                pieces.append(bytes(rest))
        return pieces


@dataclass(frozen=True)
class PartsReply:
    """A reply with arrays beside it, to which it refers by their numbers."""

    head: bytes
    arrays: Sequence[array.array[Any]]


#: What goes to a handler, and what comes back.
Message = bytes | Parts
Reply = bytes | PartsReply


class Refused(HandlerError):
    """A typed function refused an argument; `reply` says why (typed/values.py).

    seen_as: the name of the exception that the caller sees.
    """

    seen_as = "ArgumentError"

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class Failed(Refused):
    """A typed function returned an error."""

    seen_as = "GoError"


_header = struct.Struct("<III")
#: Of a reply with parts: how many there are; and of each, its kind, address and length.
_u32, _place = struct.Struct("<I"), struct.Struct("<III")
#: The most time left for a request that Go is told, in nanoseconds: a hundred years.
_MOST_LEFT = 3_153_600_000_000_000_000
shared("REQUEST_OK", int(RequestStatus.OK))
shared("REPLY_HEADER_SIZE", _header.size)


class ReadWriteMemory(Protocol):
    """What slots need of a memory. SharedMemory and the memory of a single-threaded module both provide it."""

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes | memoryview) -> None: ...
    def view(self, offset: int, length: int) -> memoryview: ...


class Guest(Protocol):
    """An instance that runs the module's exports, and its slot. Used by one thread at a time."""

    slot: Buffers

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function: ...


#: Tells the module that nobody waits for a request any more. Takes the slot's address and the request's number in it.
Cancel = Callable[[int, int], None]


class Buffers(Slot):
    """One caller's slot, opened at its first use. Used by one thread at a time, except for `cancel`.

    function: looks up an export of the caller's instance: function(name, params, result).
    deadline: when the next request will be given up, by time.monotonic, for its context in Go, which ends then, and not
        before. Only where the module takes deadlines.

    All methods that call the module raise ffi.Trapped when it traps.
    """

    def __init__(self, function: Callable[[str, str, str], ffi.Function], memory: ReadWriteMemory,
                 cancel: Cancel | None = None) -> None:
        super().__init__()
        self.function, self.memory, self._cancel = function, memory, cancel
        self.deadline: float | None = None

    def put(self, *pieces: bytes | memoryview, where: str = "gothreads_buffer") -> int:
        """Copy bytes into the module's memory, and return their address. Valid for one exported call, or one request.

        where: the export that allocates the space.
        """
        size = sum(map(len, pieces))
        if size > LARGEST:
            raise ArgumentError(f"{size:,} bytes are too many for one call: at most {LARGEST:,}")
        slot = self.opened()  # first, as it raises if the module has no gothreads/guest
        address: int = self.function(where, "II", "I")(slot, size)
        try:
            at = address
            for piece in pieces:
                self.memory.write(at, piece)
                at += len(piece)
        except MemoryAccessError as error:
            raise MemoryAccessError(f"the module allocated {size:,} bytes outside its memory: {error}") from None
        return address

    def request(self, handler: str, payload: bytes) -> bytes:
        """Call a Go handler, and return its reply. HandlerError: the handler failed; UnknownExport: no such handler."""
        reply: bytes = self.call(handler, payload)
        return reply

    def call(self, handler: str, message: bytes | Parts) -> Any:
        """The same for a typed function, whose reply may be a PartsReply. Refused, Failed."""
        if not tracing.is_traced():
            return self._call(handler, message, b"")
        with tracing.span_of(handler) as headers:
            return self._call(handler, message, headers if self._has(TRACED_REQUEST, "III") else b"")

    def _call(self, handler: str, message: bytes | Parts, trace: bytes) -> Any:
        name = handler.encode()
        head = name + trace
        pieces = message.pieces(head) if isinstance(message, Parts) else [head + message]
        self.put(*pieces, where="gothreads_payload")
        self.requests = self.requests % 0xFFFFFFFF + 1  # 1 … 2³²-1 and again from 1, as Go counts them
        deadline, self.deadline = self.deadline, None  # a request that is made inside has its own
        if deadline is not None:
            left = min((deadline - time.monotonic()) * 1e9, _MOST_LEFT)
            self.function(TIME_LEFT, "Iq", "")(self.opened(), math.ceil(left))
        if trace:
            self.function(TRACED_REQUEST, "III", "")(self.opened(), len(name), len(trace))
        else:
            self.function("gothreads_request", "II", "")(self.opened(), len(name))
        return self.answer(handler)

    def takes_deadlines(self) -> bool:
        """Whether the context of a request ends by itself at its deadline."""
        return self._has(TIME_LEFT, "Iq")

    def _has(self, name: str, params: str) -> bool:
        """Whether the module has this export: gothreads was new enough when it built it."""
        try:
            self.function(name, params, "")
        except ffi.Missing:
            return False
        return True

    def answer(self, handler: str) -> Any:
        """Return the reply to the request just made. Raises the same errors as `call`."""
        status, reply = self._reply()
        match status:
            case RequestStatus.OK:
                return reply
            case RequestStatus.ERROR:
                raise HandlerError(reply.decode(errors="replace"))
            case RequestStatus.UNKNOWN:
                raise unknown("handler", handler, _names(reply))
            case RequestStatus.REFUSED:
                raise Refused(reply)
            case RequestStatus.FAILED:
                raise Failed(reply)
            case RequestStatus.PARTS:
                return self._with_parts(reply)
            case _:
                raise HandlerError(f"the module answered a request with status {status}, which is not defined")

    def handlers(self) -> list[str]:
        """Return the names of the handlers that are registered now."""
        slot = self.opened()
        self.function("gothreads_handlers", "I", "")(slot)
        return _names(self._reply()[1])

    def stacks(self) -> str:
        """Return Go's traceback of all goroutines."""
        slot = self.opened()
        self.function("gothreads_stacks", "I", "")(slot)
        return self._reply()[1].decode(errors="replace")

    def release(self) -> None:
        """Let Go free the reply."""
        self.function("gothreads_release", "I", "")(self.opened())

    def close(self) -> None:
        """Give the slot back to the module."""
        if self.address:
            self.function("gothreads_slot_close", "I", "")(self.address)
            self.address, self.requests = 0, 0

    def cancel(self, request: int) -> None:
        """Tell the module that nobody waits for that request any more. From any thread, while it is in progress."""
        if self._cancel is not None and self.address:
            self._cancel(self.address, request)

    def opened(self) -> int:
        """Return the slot's address in the module; open the slot if necessary. ModuleError: no gothreads/guest."""
        if not self.address:
            try:
                open_ = self.function("gothreads_slot_open", "", "I")
            except ffi.Missing:
                raise ModuleError("strings and requests need the package gothreads/guest, which the module does not "
                                  "contain. Build it with: gothreads build") from None
            self.address = open_()
        return self.address

    def _reply(self) -> tuple[int, bytes]:
        # Copy before checking: the module could change its memory at any time.
        try:
            status, address, length = _header.unpack(self.memory.read(self.opened(), _header.size))
            if length > LARGEST:
                raise HandlerError(f"the module's answer has {length:,} bytes; at most {LARGEST:,}")
            reply = self.memory.read(address, length) if length else b""
        except MemoryAccessError as error:
            raise MemoryAccessError(f"the module's answer is not in its memory: {error}") from None
        if length > KEEP and status != RequestStatus.PARTS:
            self.release()
        return status, reply

    def _with_parts(self, reply: bytes) -> PartsReply:
        """Copy the parts that a reply refers to, each once. They stay in place until the next call, or `release`."""
        try:
            count, = _u32.unpack_from(reply)
            places = [_place.unpack_from(reply, _u32.size + number * _place.size) for number in range(count)]
        except struct.error:
            raise HandlerError("the module's answer is damaged: it refers to parts that it does not have") from None
        if (size := sum(length for _, _, length in places)) > LARGEST:
            raise HandlerError(f"the module's answer has {size:,} bytes; at most {LARGEST:,}")
        arrays = [self._array(*place) for place in places]
        self.release()
        return PartsReply(reply[_u32.size + count * _place.size:], arrays)

    def _array(self, kind: int, address: int, length: int) -> array.array[Any]:
        """A copy of the numbers of a kind that lie at an address. Their memory may change at any time."""
        try:
            numbers = array.array(NUMBER_CODES[kind - 1] if kind else "")
            numbers.frombytes(self.memory.view(address, length))
        except MemoryAccessError as error:
            raise MemoryAccessError(f"the module's answer is not in its memory: {error}") from None
        except (IndexError, TypeError, ValueError):
            raise HandlerError(f"the module's answer is damaged: {length:,} bytes of numbers of kind {kind}") from None
        return numbers


def _names(reply: bytes) -> list[str]:
    """Decode a list of handler names. HandlerError: it is implausibly long."""
    if len(reply) > _MOST_NAMES:
        raise HandlerError(f"the module's list of handlers has {len(reply):,} bytes; at most {_MOST_NAMES:,}")
    return reply.decode(errors="replace").split("\n") if reply else []
