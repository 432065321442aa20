"""Options and limits of an app. Values only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gothreads.bridge.handlers import Handler
from gothreads.errors import MisuseError
from gothreads.sync.seconds import check_seconds
from gothreads.text import cut
from gothreads.wasi.definitions import WasiSettings
from gothreads.wasi.sockets import Rule
from gothreads.wasi.streams import Readable, Writable
from gothreads.wasm.layout import MOST_MEMORY

#: Default for how long `gothreads serve` lets requests in flight finish after SIGTERM or Ctrl-C, in seconds.
DRAIN_SECONDS = 10.0
#: Threads that Go may need beyond one per proc: the monitor, main while it initialises, Ms that wait or wake others.
SPARE_THREADS = 6

#: What to do when all calls wait for ever: log it, end the app, or call a function with the gothreads.Stall.
OnStall = Literal["report", "exit"] | Callable[[Any], None]


@dataclass(frozen=True)
class Limits:
    """What a module may use.

    Where Go can report a refusal as an error of its own, it does; otherwise the module is ended, with LimitExceeded.

    memory: in bytes; beyond it Go is out of memory. In a pool, the limit of each instance.
    threads: Go's threads (Ms) at one time; beyond it Go's runtime ends the module ("no thread left").
    stack: WebAssembly's stack of each thread, in bytes; beyond it the module traps. (With threads, Go's own limit ends
        recursion: debug.SetMaxStack.)
    files: open files and sockets at one time, in a pool of all instances together; beyond it opening fails (EMFILE).
        None: most of what this process may open.
    output: bytes that it writes to its standard output and error, in all; beyond it the module is ended.
    seconds: since it was opened; after that the module is ended.
    """

    memory: int = MOST_MEMORY
    threads: int = 512
    stack: int = 6 << 20
    files: int | None = None
    output: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("memory", self.memory), ("threads", self.threads), ("stack", self.stack)):
            if not isinstance(limit, int) or isinstance(limit, bool):
                raise MisuseError(f"the limit on {name} must be an int, not {cut(limit)}")
        if not 1 << 16 <= self.memory <= MOST_MEMORY:
            raise MisuseError(f"the limit on memory must be between 64 KiB and 3.75 GiB, not {cut(self.memory)} bytes")
        if self.threads < SPARE_THREADS + 1:
            raise MisuseError(f"Go needs at least {SPARE_THREADS + 1} threads, the limit is {cut(self.threads)}")
        if not 1 << 18 <= self.stack <= 1 << 30:
            raise MisuseError(f"the limit on stack must be between 256 KiB and 1 GiB, not {cut(self.stack)} bytes")
        for name, value, least in (("files", self.files, 3), ("output", self.output, 0)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise MisuseError(f"the limit on {name} must be a whole number of at least {least}, not {cut(value)}")
        check_seconds("the limit on seconds", self.seconds, above_zero=True)


@dataclass(frozen=True)
class Options:
    """How to run a module. See `gothreads.open`."""

    wasi: WasiSettings
    procs: int
    callers: int
    callers_timeout: float | None
    limits: Limits
    stdin: Readable | bytes | None = None
    stdout: Writable | None = None
    stderr: Writable | None = None
    stall_timeout: float | None = None
    on_stall: OnStall = "report"
    no_calls: bool = False  # exports will not be called: there is only main
    listen: tuple[str, ...] = ()
    allow_net: tuple[Rule, ...] = ()
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    event_queue: int = 1024
    loop: asyncio.AbstractEventLoop | None = None
    instances: int = 1  # in a pool
    host: Mapping[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)  # by module and name
