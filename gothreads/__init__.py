"""Runs ordinary Go, compiled to WebAssembly, on many threads.

    import gothreads

    with gothreads.open("app.wasm") as app:
        app.exports.add(2, 3)                 # from any thread
        app.request("search", b"...")         # a handler that Go registered
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import gothreads.requirements  # noqa: F401 - first: ImportError where gothreads cannot run

# isort: split
from gothreads.version import __version__

if TYPE_CHECKING:
    from gothreads.bridge.host_registry import Host
    from gothreads.callback_m import CallerStatistics
    from gothreads.errors import (
        AppClosed,
        AppForked,
        ArgumentError,
        BuildError,
        CallersBusy,
        CallTimeout,
        CompileError,
        Frame,
        GoError,
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
    from gothreads.mpool import ThreadStatistics
    from gothreads.profiles.profile import Profile
    from gothreads.remote.handle import Remote, RemoteFunction, remote
    from gothreads.runtime.app import App, Context
    from gothreads.runtime.inspector import Goroutine
    from gothreads.runtime.options import Limits
    from gothreads.runtime.stall import Stall
    from gothreads.runtime.state import State
    from gothreads.runtime.statistics import AppStatistics, GoStatistics, PoolStatistics
    from gothreads.serve.asgi import AsgiApp, asgi
    from gothreads.shared_memory import SharedMemory
    from gothreads.supervise.app import Supervised, supervise
    from gothreads.supervise.restarts import Backoff, Restart, Supervision
    from gothreads.typed.streams import ByteStream, Stream
    from gothreads.wasi.settings import Mount
    from gothreads.wasm.signature import Parameter, Signature

#: The modules that have the public names. Each is imported when one of its names is first used: together they take
#: longer than wasmtime and Python, which matters to programs that only might use gothreads.
_MODULES = {
    "bridge.host_registry": "Host",
    "callback_m": "CallerStatistics",
    "errors": "AppClosed AppForked ArgumentError BuildError CallersBusy CallTimeout CompileError Frame GoError "
        "GothreadsError GuestError GuestExit GuestPanic GuestTrap HandlerError HostFunctionError InternalError "
        "LimitExceeded MemoryAccessError MisuseError ModuleError NotCallable QueueFull Stalled ToolchainError "
        "UnknownExport",
    "launch": "open",
    "mpool": "ThreadStatistics",
    "remote.handle": "Remote RemoteFunction remote",
    "profiles.profile": "Profile",
    "runtime.app": "App Context",
    "runtime.inspector": "Goroutine",
    "runtime.options": "Limits",
    "runtime.stall": "Stall",
    "runtime.state": "State",
    "runtime.statistics": "AppStatistics GoStatistics PoolStatistics",
    "serve.asgi": "AsgiApp asgi",
    "shared_memory": "SharedMemory",
    "supervise.app": "Supervised supervise",
    "supervise.restarts": "Backoff Restart Supervision",
    "typed.streams": "ByteStream Stream",
    "wasi.settings": "Mount",
    "wasm.signature": "Parameter Signature",
}
_PLACES = {name: f"gothreads.{module}" for module, names in _MODULES.items() for name in names.split()}


class _Package(ModuleType):
    """A package whose public names stay what they are when a subpackage of the same name (supervise) is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


if not TYPE_CHECKING:  # for which every name would exist
    def __getattr__(name: str) -> object:
        if (module := _PLACES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(module), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "App",
    "AppClosed",
    "AppForked",
    "AppStatistics",
    "ArgumentError",
    "AsgiApp",
    "Backoff",
    "BuildError",
    "ByteStream",
    "CallTimeout",
    "CallerStatistics",
    "CallersBusy",
    "CompileError",
    "Context",
    "Frame",
    "GoError",
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
    "PoolStatistics",
    "Profile",
    "QueueFull",
    "Remote",
    "RemoteFunction",
    "Restart",
    "SharedMemory",
    "Signature",
    "Stall",
    "Stalled",
    "State",
    "Stream",
    "Supervised",
    "Supervision",
    "ThreadStatistics",
    "ToolchainError",
    "UnknownExport",
    "__version__",
    "asgi",
    "open",
    "remote",
    "supervise",
]
