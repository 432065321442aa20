"""Reads and writes the binary format's numbers (LEB128), and its names and vectors, which begin with their length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gothreads.errors import ModuleError

T = TypeVar("T")


class Reader:
    """A cursor over bytes. `where` names their section and `base` is their offset in the file, for error messages.

    All methods that read raise ModuleError when the bytes are malformed or end early.
    """

    def __init__(self, content: bytes, where: str, base: int = 0) -> None:
        self.content, self.where, self.base = content, where, base
        self.at, self.end = 0, len(content)

    def fail(self, problem: str) -> ModuleError:
        return ModuleError(f"not a valid WebAssembly module: {self.where} section, offset {self.base + self.at:#x}: "
                           f"{problem}")

    def byte(self) -> int:
        if self.at >= self.end:
            raise self.fail("it ends early (is the file truncated?)")
        self.at += 1
        return self.content[self.at - 1]

    def take(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise self.fail(f"{count} bytes are announced, {self.end - self.at} are there (is the file truncated?)")
        self.at += count
        return self.content[self.at - count:self.at]

    def _leb(self) -> tuple[int, int]:
        """The bits of a number of at most five bytes, and their count: a multiple of seven."""
        value = bits = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << bits
            bits += 7
            if byte < 0x80:
                return value, bits
            if bits >= 35:
                raise self.fail("a number is longer than 32 bits")

    def u32(self) -> int:
        value, _ = self._leb()
        if value >> 32:
            raise self.fail("a number is longer than 32 bits")
        return value

    def s32(self) -> int:
        value = signed(*self._leb())
        if not -(1 << 31) <= value < 1 << 31:
            raise self.fail("a number is longer than 32 bits")
        return value

    def name(self) -> str:
        raw = self.take(self.u32())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8") from None

    def vector(self, item: Callable[[Reader], T], most: int | None = None) -> list[T]:
        count = self.u32()
        if count > self.end - self.at:  # each item takes at least one byte
            raise self.fail("it ends early (is the file truncated?)")
        if most is not None and count > most:
            raise ModuleError(f"the module's {self.where} section has {count:,} entries; gothreads takes {most:,} at "
                              f"the most")
        return [item(self) for _ in range(count)]

    def rest(self) -> bytes:
        return self.take(self.end - self.at)


def signed(value: int, bits: int) -> int:
    """The same bits, read as a signed number."""
    return value - (1 << bits) if value >> (bits - 1) else value


def number(content: bytes) -> int:
    """The u32 that these bytes encode."""
    return Reader(content, "code").u32()


def uleb(value: int) -> bytes:
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def sleb(value: int) -> bytes:
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if value == (-1 if byte & 0x40 else 0):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def vector(content: bytes) -> bytes:
    return uleb(len(content)) + content


def name(text: str) -> bytes:
    return vector(text.encode())
