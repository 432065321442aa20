"""A module as a process: the memory and the descriptors that all its threads share, as the host's calls use them."""

from __future__ import annotations

import contextlib
import errno
import struct

from gothreads.shared_memory import BoundedMemory
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor, Span

#: The most bytes that one call transfers, whatever lengths the module passes.
LARGEST_TRANSFER = 1 << 30
_MOST_VECTORS = 1024
_LONGEST_NAME = 1 << 16

_vector = struct.Struct("<II")


class Process:
    """The memory and the descriptor table of a module. `memory` is set before the module runs."""

    memory: BoundedMemory

    def __init__(self, table: DescriptorTable) -> None:
        self.table = table

    def spans(self, vectors: int, count: int) -> list[Span]:
        """Read WASI's I/O vectors: the buffers of one call, without the empty ones."""
        if count > _MOST_VECTORS:
            raise OSError(errno.EINVAL, "too many vectors")
        # Copied first: the module may change them at any time.
        pairs = [pair for pair in _vector.iter_unpack(self.memory.read(vectors, _vector.size * count)) if pair[1]]
        total = sum(size for _, size in pairs)
        if total > LARGEST_TRANSFER or (len(pairs) > 1 and total > self.memory.size):  # the vectors may overlap
            raise OSError(errno.EINVAL, "more than a gigabyte in one call")
        return [(self.memory.address(address, size), size) for address, size in pairs]

    def name(self, address: int, length: int) -> bytes:
        """Read a path."""
        if length > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, "path too long")
        return self.memory.read(address, length)

    def add_descriptor(self, descriptor: Descriptor, result: int) -> int:
        """Add a descriptor to the table, and write its number to the module's memory at `result`.

        The table owns the descriptor from here on: another thread may be in a call on it at once.
        """
        number = self.table.add(descriptor)
        try:
            self.memory.write_u32(result, number)
        except BaseException:
            with contextlib.suppress(OSError):  # another thread may have closed it already
                self.table.remove(number)
            raise
        return number
