"""Bytes from any object that has Python's buffer protocol: NumPy arrays, array.array, memoryview, mmap, ctypes."""

from __future__ import annotations

import collections.abc
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = getattr(collections.abc, "Buffer", bytes | bytearray | memoryview)  # new in Python 3.12

__all__ = ["Buffer", "raw_bytes"]

#: The names of fields in the format of a buffer's items (PEP 3118), such as ":x:" in "T{d:x:d:y:}".
_FIELD_NAMES = re.compile(":[^:]*:")


def raw_bytes(value: object) -> bytes | None:
    """A copy of the bytes in an object's buffer; in C order if they are not contiguous. None: it has no buffer.

    A single number counts as an object without a buffer: NumPy's have one, but their bytes are hardly ever meant.
    ValueError: the buffer cannot be read, or holds Python objects.
    """
    if isinstance(value, bytes):
        return bytes(value)
    try:
        with memoryview(value) as view:  # type: ignore[arg-type]  # TypeError if it has no buffer
            if view.ndim == 0 and hasattr(value, "__float__"):
                return None
            if "O" in _FIELD_NAMES.sub("", view.format):
                raise ValueError("its items are Python objects, which have no bytes of their own")
            return view.tobytes()
    except TypeError:
        return None
    except BufferError as error:
        raise ValueError(str(error)) from None
