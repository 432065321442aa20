"""The shared memory seen from Python: nothing outside it can be reached."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gothreads.engine.settings import new_engine
from gothreads.errors import AppClosed, ArgumentError, MemoryAccessError, ModuleError
from gothreads.shared_memory import SharedMemory
from gothreads.wasm.binary import PAGE

SIZE = 2 * PAGE
KINDS = {"u8": "<B", "u32": "<I", "u64": "<Q", "i32": "<i", "i64": "<q", "f64": "<d"}


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return new_engine(1 << 20)


@pytest.fixture
def memory(engine: wasmtime.Engine) -> Iterator[SharedMemory]:
    memory = SharedMemory(engine, 2, 4)
    yield memory
    memory.close()


def accesses(memory: SharedMemory, offset: int, length: int) -> list[Callable[[], object]]:
    return [lambda: memory.read(offset, length), lambda: memory.view(offset, length),
            lambda: memory.write(offset, bytes(length)),
            lambda: memory.address(offset, length)]


def test_size_is_in_bytes_and_pages(memory: SharedMemory) -> None:
    assert (memory.size, memory.pages) == (SIZE, 2)


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, SIZE), (SIZE, 0), (SIZE - 1, 1), (1, SIZE - 1)])
def test_what_is_inside_can_be_accessed(memory: SharedMemory, offset: int, length: int) -> None:
    for access in accesses(memory, offset, length):
        access()


@pytest.mark.parametrize(("offset", "length"),
                         [(SIZE, 1), (SIZE + 1, 0), (SIZE - 1, 2), (0, SIZE + 1), (-1, 1), (-8, 4), (1 << 32, 0),
                          (1 << 32, 8),
                                                (1 << 63, 1), ((1 << 64) - 4, 8), (1 << 64, 4), (-(1 << 64), 4)])
def test_what_is_not_all_inside_is_an_error_that_says_where(memory: SharedMemory, offset: int, length: int) -> None:
    for access in accesses(memory, offset, length):
        with pytest.raises(MemoryAccessError, match=r"outside the memory of 131,072 bytes"):
            access()


@pytest.mark.parametrize("length", [-1, -(1 << 64)])
def test_a_negative_length_is_an_error(memory: SharedMemory, length: int) -> None:
    for access in (lambda: memory.read(8, length), lambda: memory.view(8, length), lambda: memory.address(8, length)):
        with pytest.raises(MemoryAccessError):
            access()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(-PAGE, 2 * SIZE), st.binary(max_size=64))
def test_a_write_is_read_back_or_refused_and_touches_nothing_else(memory: SharedMemory, offset: int,
                                                                  content: bytes) -> None:
    before = bytearray(memory.read(0, SIZE))
    if 0 <= offset <= SIZE - len(content):
        memory.write(offset, content)
        before[offset:offset + len(content)] = content
    else:
        with pytest.raises(MemoryAccessError):
            memory.write(offset, content)
    assert memory.read(0, SIZE) == bytes(before)


@pytest.mark.parametrize("content", [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"a1b2c3d4")[::2]])
def test_a_write_takes_anything_with_bytes(memory: SharedMemory, content: bytes | bytearray | memoryview) -> None:
    memory.write(100, content)
    assert memory.read(99, 6) == b"\0" + bytes(content) + b"\0"


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_numbers_are_little_endian(memory: SharedMemory, kind: str, data: st.DataObject) -> None:
    form, size = KINDS[kind], struct.calcsize(KINDS[kind])
    low, high = (0, (1 << 8 * size) - 1) if kind[0] == "u" else (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1)
    value: Any = data.draw(st.floats(allow_nan=False) if kind == "f64"
                           else st.integers(low, high) | st.sampled_from([low, high]))
    offset = data.draw(st.integers(0, SIZE - size))
    getattr(memory, f"write_{kind}")(offset, value)
    assert memory.read(offset, size) == struct.pack(form, value)
    assert getattr(memory, f"read_{kind}")(offset) == value


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_crosses_the_end_is_an_error(memory: SharedMemory, kind: str) -> None:
    size = struct.calcsize(KINDS[kind])
    for offset in (SIZE - size + 1, SIZE, -1):
        with pytest.raises(MemoryAccessError):
            getattr(memory, f"read_{kind}")(offset)
        with pytest.raises(MemoryAccessError):
            getattr(memory, f"write_{kind}")(offset, 0)


@pytest.mark.parametrize(("kind", "values"), [("u8", (-1, 256)), ("u32", (-1, 1 << 32)), ("u64", (-1, 1 << 64)),
                                              ("i32", (-(1 << 31) - 1, 1 << 31)), ("i64", (-(1 << 63) - 1, 1 << 63))])
def test_a_number_that_does_not_fit_is_an_error_and_is_not_written(memory: SharedMemory, kind: str,
                                                                   values: tuple[int, ...]) -> None:
    for value in values:
        with pytest.raises(ArgumentError, match=str(value)):
            getattr(memory, f"write_{kind}")(8, value)
    with pytest.raises(ArgumentError, match="-1"):
        memory.store_u32(8, -1)
    with pytest.raises(ArgumentError, match=str(1 << 32)):
        memory.store_u32(8, 1 << 32)
    assert memory.read(0, 32) == bytes(32)


def test_aligned_loads_and_stores_are_of_the_same_memory(memory: SharedMemory) -> None:
    memory.store_u32(SIZE - 4, 0x01020304)
    assert memory.read(SIZE - 4, 4) == b"\4\3\2\1"
    assert memory.load_u32(SIZE - 4) == 0x01020304


@pytest.mark.parametrize("offset", [1, 2, 3, SIZE - 1])
def test_an_atomic_access_that_is_not_aligned_is_an_error(memory: SharedMemory, offset: int) -> None:
    with pytest.raises(MemoryAccessError, match="not a multiple of 4"):
        memory.load_u32(offset)
    with pytest.raises(MemoryAccessError, match="not a multiple of 4"):
        memory.store_u32(offset, 0)


@pytest.mark.parametrize("offset", [SIZE, -4, 1 << 32])
def test_an_atomic_access_outside_is_an_error(memory: SharedMemory, offset: int) -> None:
    with pytest.raises(MemoryAccessError):
        memory.load_u32(offset)
    with pytest.raises(MemoryAccessError):
        memory.store_u32(offset, 0)


def test_a_view_is_the_memory_itself(memory: SharedMemory) -> None:
    view = memory.view(10, 4)
    memory.write(10, b"abcd")
    assert bytes(view) == b"abcd"
    view[1:3] = b"XY"
    assert memory.read(10, 4) == b"aXYd"
    assert (view.format, view.itemsize, view.nbytes) == ("B", 1, 4)


def test_growing_keeps_the_content_and_opens_what_is_new(memory: SharedMemory) -> None:
    view = memory.view(0, 4)
    memory.write(0, b"kept")
    with pytest.raises(MemoryAccessError):
        memory.read_u8(SIZE)
    assert memory.grow(1) == 2
    assert (memory.pages, memory.size) == (3, SIZE + PAGE)
    assert memory.read(SIZE, PAGE) == bytes(PAGE)
    assert bytes(view) == b"kept"
    assert memory.grow(0) == 3


@pytest.mark.parametrize("pages", [3, 65536, -1, 1 << 64, 1 << 70])
def test_growing_beyond_the_maximum_is_an_error_and_changes_nothing(memory: SharedMemory, pages: int) -> None:
    with pytest.raises(MemoryAccessError, match="cannot grow from 2 pages"):
        memory.grow(pages)
    assert memory.pages == 2


def test_after_close_every_access_is_an_error(memory: SharedMemory) -> None:
    memory.close()
    memory.close()
    others: list[Callable[[], object]] = [
        lambda: memory.size, lambda: memory.pages, lambda: memory.load_u32(0), lambda: memory.store_u32(0, 1),
        lambda: memory.read_u8(0),
        lambda: memory.write_u8(0, 1), lambda: memory.read_f64(0), lambda: memory.write_u64(0, 1),
        lambda: memory.grow(0)]
    for access in [*accesses(memory, 0, 1), *others]:
        with pytest.raises(AppClosed):
            access()


def test_a_minimum_above_the_maximum_says_to_raise_the_limit(engine: wasmtime.Engine) -> None:
    with pytest.raises(ModuleError,
                       match=r"needs 320 KiB of memory to start, the limit is 256 KiB. Raise it"):
        SharedMemory(engine, 5, 4)


def test_a_memory_that_webassembly_has_not_is_a_module_error(engine: wasmtime.Engine) -> None:
    with pytest.raises(ModuleError):
        SharedMemory(engine, 1, 65537)
