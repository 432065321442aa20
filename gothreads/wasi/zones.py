"""Time zones of this machine for Go's time.LoadLocation, without a mount (build/goroot/time/zoneinfo_gothreads.go).

Only files of the folders of time zones are read, and only if they are time zones: they are the same on all machines.
"localtime", a link out of the folder, is left out.
"""

from __future__ import annotations

import errno
import importlib.resources
import os
import re
import zoneinfo

from gothreads.wasi.process import Process

_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_LONGEST_NAME = 256
_BEGINNING = b"TZif"


class ZoneCalls:
    """A function of package time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def time_zone(self, name: int, length: int, buffer: int, size: int, done: int) -> None:
        if length > _LONGEST_NAME:
            raise OSError(errno.ENOENT, "no time zone")
        data = zone(self._process.memory.read(name, length).decode(errors="replace"))
        if len(data) > size:
            raise OSError(errno.ENOBUFS, "the time zone is larger")
        self._process.memory.write(buffer, data)
        self._process.memory.write_u32(done, len(data))


def zone(name: str) -> bytes:
    """The file of a time zone, from the system or from the package tzdata. ENOENT if there is none."""
    if _NAME.fullmatch(name):
        for folder in map(os.path.realpath, zoneinfo.TZPATH):
            path = os.path.realpath(os.path.join(folder, name))
            if path.startswith(f"{folder}/") and os.path.isfile(path):
                with open(path, "rb") as file:
                    if (data := file.read()).startswith(_BEGINNING):
                        return data
        try:
            return importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
        except (ModuleNotFoundError, OSError):
            pass
    raise OSError(errno.ENOENT, "no time zone")
