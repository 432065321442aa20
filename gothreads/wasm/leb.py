"""Numbers, names and vectors as the binary format has them: LEB128, lengths first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gothreads.errors import ModuleError

T = TypeVar("T")


class Reader:
    """A cursor over bytes. `base` is where they begin in the file, for error messages."""

    def __init__(self, content: bytes, where: str, base: int = 0) -> None:
        self.content, self.where, self.base = content, where, base
        self.at, self.end = 0, len(content)

    def fail(self, problem: str) -> ModuleError:
        return ModuleError(f"not a valid WebAssembly module: {self.where} section, offset {self.base + self.at:#x}: {problem}")

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
        """The bits of a number of at most five bytes, and how many there are: a multiple of seven."""
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
        if count > self.end - self.at:  # each takes a byte at least
            raise self.fail("it ends early (is the file truncated?)")
        if most is not None and count > most:
            raise ModuleError(f"the module's {self.where} section has {count:,} entries; gothreads takes {most:,} at the most")
        return [item(self) for _ in range(count)]

    def rest(self) -> bytes:
        return self.take(self.end - self.at)


def signed(value: int, bits: int) -> int:
    """The same bits, read as a signed number."""
    return value - (1 << bits) if value >> (bits - 1) else value


def number(content: bytes) -> int:
    """What u32 these bytes are."""
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
