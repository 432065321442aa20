"""Ordinary Go, compiled to WebAssembly, on many threads.

    import gothreads

    with gothreads.open("app.wasm") as app:
        app.exports.add(2, 3)                 # from any thread
        app.request("search", b"...")         # a handler that Go registered
"""

import gothreads.requirements  # noqa: F401 - first: ImportError where gothreads cannot run

# isort: split
from gothreads.app import App
from gothreads.context import Context
from gothreads.errors import (
    AppClosed,
    AppForked,
    ArgumentError,
    BuildError,
    CallersBusy,
    CallTimeout,
    CompileError,
    Frame,
    GothreadsError,
    GuestError,
    GuestExit,
    GuestPanic,
    GuestTrap,
    HandlerError,
    HostFunctionError,
    InternalError,
    LimitExceeded,
    MemoryAccessError,
    MisuseError,
    ModuleError,
    NotCallable,
    QueueFull,
    Stalled,
    ToolchainError,
    UnknownExport,
)
from gothreads.host.wasi import Mount
from gothreads.hosting import Host
from gothreads.inspector import Goroutine
from gothreads.opening import open
from gothreads.restarts import Backoff, Restart, Supervision
from gothreads.shared_memory import SharedMemory
from gothreads.signature import Parameter, Signature
from gothreads.stall import Stall
from gothreads.state import AppStatistics, GoStatistics, Limits, State
from gothreads.supervised import Supervised, supervise
from gothreads.version import __version__

__all__ = [
    "App",
    "AppClosed",
    "AppForked",
    "AppStatistics",
    "ArgumentError",
    "Backoff",
    "BuildError",
    "CallTimeout",
    "CallersBusy",
    "CompileError",
    "Context",
    "Frame",
    "GoStatistics",
    "Goroutine",
    "GothreadsError",
    "GuestError",
    "GuestExit",
    "GuestPanic",
    "GuestTrap",
    "HandlerError",
    "Host",
    "HostFunctionError",
    "InternalError",
    "LimitExceeded",
    "Limits",
    "MemoryAccessError",
    "MisuseError",
    "ModuleError",
    "Mount",
    "NotCallable",
    "Parameter",
    "QueueFull",
    "Restart",
    "SharedMemory",
    "Signature",
    "Stall",
    "Stalled",
    "State",
    "Supervised",
    "Supervision",
    "ToolchainError",
    "UnknownExport",
    "__version__",
    "open",
    "supervise",
]
