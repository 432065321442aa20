"""proc_…: the module ends itself."""

from __future__ import annotations

import errno


class ExitRequested(Exception):
    """The module called proc_exit."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


class ProcCalls:
    """Functions about the process itself."""

    def proc_exit(self, code: int) -> None:
        raise ExitRequested(code - (1 << 32) if code >> 31 else code)  # a signed number

    def proc_raise(self, _signal: int) -> None:  # Go's signals do not come this way: wasi/signals.py
        raise OSError(errno.ENOSYS, "signals are not supported")
