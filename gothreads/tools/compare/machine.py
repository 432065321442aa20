"""The machine that a report is about, and what other processes did meanwhile."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from gothreads.engine import extension
from gothreads.version import __version__

#: The share of all processors from which on other processes disturb a measurement.
BUSY = 0.1


@dataclass(frozen=True)
class Machine:
    """`memory` in bytes; `load`: the load average of the minute before; `others`: the share of all processors that
    other processes used during the run, None when unknown.
    """

    processor: str
    processors: int
    memory: int
    system: str
    python: str
    go: str
    wasmtime: str
    gothreads: str
    load: float
    others: float | None = None

    @property
    def shared(self) -> bool:
        """Whether other processes used enough to disturb the measurement."""
        return self.others is not None and self.others > BUSY

    @property
    def summary(self) -> str:
        meanwhile = ("" if self.others is None
                     else f"; other processes used {self.others:.0%} of the processors meanwhile")
        return (f"{self.processor}, {self.processors} processors, {self.memory / 1e9:.1f} GB of memory, {self.system}; "
                f"Python {self.python}, {self.go}, wasmtime {self.wasmtime}, gothreads {self.gothreads}; "
                f"load {self.load:.1f} before{meanwhile}")


def this_machine(processors: int, go: str) -> Machine:
    system = f"{platform.system()} {platform.release().split('-')[0]} on {platform.machine()}"
    return Machine(_processor(), processors, psutil.virtual_memory().total, system, platform.python_version(), go,
                   version("wasmtime"), __version__, os.getloadavg()[0])


def why_calls_use_ctypes() -> str | None:
    """Why calls go through ctypes by accident, as in a checkout without the compiled extension.

    None when they go through C, or when GOTHREADS_FAST=0 asks for ctypes.
    """
    return extension.missing if extension.compiled is None and os.environ.get("GOTHREADS_FAST") != "0" else None


def busy_with_others(seconds: float = 0.5) -> str | None:
    """What other processes take of this machine, if that would disturb a measurement. Takes so many seconds."""
    load = OtherLoad()
    time.sleep(seconds)
    share = load.share()
    return f"other processes use {share:.0%} of the processors; load {os.getloadavg()[0]:.1f}" if share > BUSY else None


class OtherLoad:
    """What other processes use of the processors from now on."""

    def __init__(self) -> None:
        self._begin, self._busy, self._own = time.monotonic(), _busy(), _own()

    def share(self) -> float:
        """Their share of all processors. Every child of this process must have ended, since only then is its time
        counted.
        """
        whole = (time.monotonic() - self._begin) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (_busy() - self._busy) - (_own() - self._own)) / whole)


def _busy() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return float(sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def _own() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _processor() -> str:
    if sys.platform == "linux":
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(errors="replace"))
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()
