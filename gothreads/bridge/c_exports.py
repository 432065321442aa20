"""Exports of modules that are not Go's: numbers by their WebAssembly types, and bytes by TinyGo's convention.

TinyGo's modules follow the convention by default, and other modules can export what it needs. For each bytes argument
the host allocates memory with `malloc(length)`, copies the bytes there, passes address and length (two i32), and calls
`free(address)` after the call. An export returns bytes as one i64, address << 32 | length; the host copies them, and
frees them likewise. In some modules, `free` takes the length too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gothreads.bridge.buffers import LARGEST, Buffers
from gothreads.bridge.exports import Export
from gothreads.bridge.go_types import from_wasm
from gothreads.bridge.raw_bytes import raw_bytes
from gothreads.engine import ffi
from gothreads.errors import ArgumentError, MemoryAccessError, NotCallable
from gothreads.wasm.binary import VALUE_TYPES, FuncType, Module

_I32 = b"\x7f"
_EXPORT_THEM = "Export them (in C: -Wl,--export=malloc -Wl,--export=free; docs/other-languages.md has more)"


@dataclass(frozen=True)
class Block:
    """A block of the module's memory; `length` is in bytes."""

    address: int
    length: int

    def holds(self, other: Block) -> bool:
        return self.address <= other.address < self.address + self.length


@dataclass(frozen=True)
class Allocator:
    """A module's malloc and free. `slot` is that of the caller that is in the module. Calls raise ffi.Trapped."""

    free_takes_length: bool

    @classmethod
    def of(cls, module: Module, functions: Mapping[str, int]) -> Allocator | None:
        """Return the allocator of a module with these exported functions; None if they include no suitable one."""
        kinds = module.function_types()
        if not {"malloc", "free"} <= functions.keys() or kinds[functions["malloc"]] != FuncType(_I32, _I32):
            return None
        free = kinds[functions["free"]]
        return cls(len(free.params) == 2) if free in (FuncType(_I32, b""), FuncType(_I32 * 2, b"")) else None

    def allocate(self, slot: Buffers, data: bytes) -> Block:
        """Copy bytes into a new block. ArgumentError: no room; MemoryAccessError: malloc returned a bad address."""
        size = max(len(data), 1)  # malloc(0) may return 0, which would look like a failure
        block = Block(self._malloc(slot, size), size)
        if not block.address:
            raise ArgumentError(f"{len(data):,} bytes are too many for the module: its malloc has no room for them")
        try:
            slot.memory.write(block.address, data)
        except MemoryAccessError as error:
            raise MemoryAccessError(f"the module's malloc returned memory that the module does not "
                                    f"have: {error}") from None
        return block

    def free(self, slot: Buffers, block: Block) -> None:
        if self.free_takes_length:
            slot.function("free", "II", "")(block.address, block.length)
        else:
            slot.function("free", "I", "")(block.address)

    @staticmethod
    def _malloc(slot: Buffers, length: int) -> int:
        address: int = slot.function("malloc", "I", "I")(length)
        return address


class CExport(Export):
    """See Export. If the module has malloc and free, one `str` or buffer may take the place of two consecutive i32."""

    wasm_types = True
    has_names = False  # and a text takes the place of two parameters

    def __init__(self, name: str, kind: FuncType, allocator: Allocator | None, *, packed: bool = False) -> None:
        super().__init__(from_wasm(name, kind, foreign=True))
        self._kind, self._allocator, self._packed = kind, allocator, packed
        self._types = [VALUE_TYPES[t] for t in kind.params]

    def convert(self, args: tuple[Any, ...]) -> list[Any]:
        given = [self._bytes(number, value) for number, value in enumerate(args, 1)]
        if not any(data is not None for data in given):
            if len(args) != len(self._types):
                raise self._wrong_count(len(args))
            return super().convert(args)
        numbers: list[Any] = []  # with two zeros in the place of each text
        texts: dict[int, bytes] = {}
        for number, (value, data) in enumerate(zip(args, given, strict=True), 1):
            if data is None:
                numbers.append(value)
                continue
            if self._types[len(numbers):len(numbers) + 2] != ["i32", "i32"]:
                raise ArgumentError(f"{self.shown}: argument {number} cannot be {type(value).__name__}, which takes "
                                    f"the place of two i32, an address and a length: {self.signature.declaration}")
            if self._allocator is None:
                raise ArgumentError(f"{self.shown}: argument {number} cannot be {type(value).__name__}: the module "
                                    "exports no malloc(i32) i32 and free(i32), which are needed to copy it there. "
                                    f"{_EXPORT_THEM}; or pass an address and a length")
            if len(data) > LARGEST:
                raise ArgumentError(f"{len(data):,} bytes are too many for one call: at most {LARGEST:,}")
            texts[len(numbers)] = data
            numbers += [0, 0]
        if len(numbers) != len(self._types):
            raise self._wrong_count(len(args))
        converted = super().convert(tuple(numbers))
        return [texts.get(place, raw) for place, raw in enumerate(converted) if place - 1 not in texts]

    def _bytes(self, number: int, value: object) -> bytes | None:
        """The bytes of the argument of this number; None if it is a number. ArgumentError: they cannot be read."""
        if isinstance(value, int | float):
            return None
        try:
            return value.encode() if isinstance(value, str) else raw_bytes(value)
        except ValueError as error:
            raise ArgumentError(f"{self.shown}: argument {number} has no bytes that can be copied: {error}") from None

    def _wrong_count(self, given: int) -> ArgumentError:
        hint = ("; a str or bytes takes the place of two i32" if self._allocator is not None
                and ("i32", "i32") in pairwise(self._types) else "")
        return ArgumentError(f"{self._takes(given)}{hint}")

    def call(self, function: ffi.Function, converted: list[Any], slot: Buffers) -> Any:
        borrowed: list[Block] = []
        try:
            values: list[Any] = []
            for raw in converted:
                if isinstance(raw, bytes):
                    assert self._allocator is not None
                    borrowed.append(self._allocator.allocate(slot, raw))
                    values += [borrowed[-1].address, len(raw)]
                else:
                    values.append(raw)
            result = function(*values)
            return self._take(slot, result & (1 << 64) - 1, borrowed) if self._packed else result
        except ffi.Trapped:
            borrowed.clear()  # the instance cannot be called any more
            raise
        finally:
            for block in borrowed:
                assert self._allocator is not None
                self._allocator.free(slot, block)

    def _take(self, slot: Buffers, result: int, borrowed: list[Block]) -> bytes:
        """Copy the returned bytes, and free them, unless they lie within an argument, which the caller frees anyway.

        MemoryAccessError: they are too long, or not in the module's memory.
        """
        assert self._allocator is not None
        block = Block(result >> 32, result & 0xFFFFFFFF)
        if not block.length and self._allocator.free_takes_length:
            return b""  # nothing was allocated; the address may be anything (Zig uses the highest)
        try:
            if block.length > LARGEST:
                raise MemoryAccessError(f"it is longer than {LARGEST:,} bytes")
            data = slot.memory.read(block.address, block.length)
        except MemoryAccessError as error:
            raise MemoryAccessError(f"{self.shown} returned {result:#x}, which is not bytes (address << 32 | length): "
                                    f"{error}") from None
        if block.address and not any(argument.holds(block) for argument in borrowed):
            self._allocator.free(slot, block)
        return data

    def packed(self) -> Export:
        if self._kind.results != b"\x7e":
            raise NotCallable(f"{self.shown} does not return bytes, which would be one i64 (address << 32 | length): "
                              f"{self.signature.declaration}")
        if self._allocator is None:
            raise NotCallable(f"{self.shown}: the module exports no malloc(i32) i32 and free(i32), which are needed to "
                              f"free the bytes that it returns. {_EXPORT_THEM}")
        return CExport(self.name, self._kind, self._allocator, packed=True)

    def parse(self, texts: tuple[str, ...]) -> tuple[Any, ...]:
        """See Export. With fewer texts than parameters, some take the place of two i32 each.

        Those are the texts that are not numbers, then as many others as needed, from the first on.
        """
        if len(texts) == len(self._types):
            return super().parse(texts)
        found = self._arrange(texts)
        if found is None:
            raise ArgumentError(f"{self.shown}: the arguments ({len(texts)}) do not fit; each is a number, or a text "
                                f"that takes the place of two i32, an address and a length: "
                                f"{self.signature.declaration}")
        return found

    def _arrange(self, texts: tuple[str, ...]) -> tuple[Any, ...] | None:
        @functools.cache
        def arranged(place: int, index: int) -> tuple[Any, ...] | None:
            """Assign the texts from `index` on to the parameters from `place` on; None if they do not fit."""
            if index == len(texts):
                return () if place == len(self._types) else None
            if self._types[place:place + 2] == ["i32", "i32"] and (rest := arranged(place + 2, index + 1)) is not None:
                return (texts[index], *rest)
            if place < len(self._types) and (rest := arranged(place + 1, index + 1)) is not None:
                try:
                    return (self.parse_one(place, texts[index]), *rest)
                except ArgumentError:
                    return None
            return None
        return arranged(0, 0)
