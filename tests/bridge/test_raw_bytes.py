"""The bytes of what Python programs pass as payloads, replies and text arguments."""

from __future__ import annotations

import array
import ctypes
import mmap

import numpy
import pytest

from gothreads.bridge.raw_bytes import raw_bytes

GRID = numpy.arange(6, dtype="<u2").reshape(2, 3)


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_uint8), ("O", ctypes.c_uint8)]


@pytest.mark.parametrize(("value", "data"), [
    (b"ab", b"ab"), (bytearray(b"ab"), b"ab"), (memoryview(b"abcd")[::2], b"ac"),
    (array.array("H", [1, 2]), b"\1\0\2\0"),
    (GRID, GRID.tobytes()), (GRID[:, ::2], GRID[:, ::2].tobytes()), (GRID.T, GRID.T.tobytes()),
    (numpy.zeros((0, 3)), b""), (numpy.zeros(2, dtype=[("Once", "u1"), ("O", "u1")]), bytes(4)),
    (Point(1, 2), b"\1\2"),
], ids=["bytes", "bytearray", "strided memoryview", "array", "numpy", "strided numpy", "Fortran order", "empty",
        "fields", "ctypes"])
def test_bytes_of_a_buffer_are_copied_in_c_order(value: object, data: bytes) -> None:
    assert raw_bytes(value) == data


def test_a_copy_does_not_change_with_its_buffer() -> None:
    with mmap.mmap(-1, 3) as mapped:
        copied = raw_bytes(mapped)
        mapped[:] = b"abc"
        assert (copied, raw_bytes(mapped)) == (bytes(3), b"abc")


@pytest.mark.parametrize("value", [None, 5, 1.5, "text", [1], numpy.int64(5), numpy.float64(1), numpy.array(5)])
def test_numbers_and_what_has_no_buffer_have_no_bytes(value: object) -> None:
    assert raw_bytes(value) is None


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


def closed() -> mmap.mmap:
    mapped = mmap.mmap(-1, 1)
    mapped.close()
    return mapped


@pytest.mark.parametrize(("value", "why"), [
    (released(), "released"), (closed(), "closed"), (numpy.array(["a", 1], dtype=object), "Python objects"),
    (numpy.zeros(1, dtype=[("x", "u1"), ("object", object)]), "Python objects"),
    (numpy.zeros(1, dtype="datetime64[s]"), "buffer"),
], ids=["released", "closed", "objects", "fields with objects", "dates"])
def test_a_buffer_that_cannot_be_read_is_an_error(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        raw_bytes(value)
