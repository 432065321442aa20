"""clock_time_get, for modules whose instances must agree on the time."""

from __future__ import annotations

import errno
import time

from gothreads.wasi.process import Process

#: Indexed by WASI's clock number: real time, monotonic, CPU time of the process and of the thread. Nanoseconds.
_CLOCKS = (time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns)


class ClockCalls:
    """Functions that read clocks."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def clock_time_get(self, clock: int, _precision: int, result: int) -> None:
        if clock >= len(_CLOCKS):
            raise OSError(errno.EINVAL, "unknown clock")
        self._process.memory.write_u64(result, _CLOCKS[clock]())
