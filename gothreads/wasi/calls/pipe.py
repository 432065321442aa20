"""pipe_open, which is not part of WASI: Go's os.Pipe imports it from module `gothreads`."""

from __future__ import annotations

import contextlib
import os

from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.process import Process


class PipeCalls:
    """Creates pipes."""

    def __init__(self, process: Process) -> None:
        self._process, self._table = process, process.table

    def pipe_open(self, result: int) -> None:
        """Create a pipe, and write the numbers of its read end and its write end to `result`."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        reader = Descriptor(read, self._table.stop, writable=False)
        writer = Descriptor(write, self._table.stop, readable=False)
        number = self._process.add_descriptor(reader, result)
        try:
            self._process.add_descriptor(writer, result + 4)
        except BaseException:
            with contextlib.suppress(OSError):  # another thread may have closed it already
                self._table.remove(number)
            raise
