"""Runs ordinary Go, compiled to WebAssembly, on many threads.

    import gothreads

    with gothreads.open("app.wasm") as app:
        app.exports.add(2, 3)                 # from any thread
        app.request("search", b"...")         # a handler that Go registered
"""

import gothreads.requirements  # noqa: F401 - first: ImportError where gothreads cannot run

# isort: split
from gothreads.bridge.host_registry import Host
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
from gothreads.launch import open
from gothreads.runtime.app import App, Context
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.options import Limits
from gothreads.runtime.stall import Stall
from gothreads.runtime.state import State
from gothreads.runtime.statistics import AppStatistics, GoStatistics
from gothreads.shared_memory import SharedMemory
from gothreads.supervise.app import Supervised, supervise
from gothreads.supervise.restarts import Backoff, Restart, Supervision
from gothreads.version import __version__
from gothreads.wasi.settings import Mount
from gothreads.wasm.signature import Parameter, Signature

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
