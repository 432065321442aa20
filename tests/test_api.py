"""The public names: adding or removing one is a decision."""

from __future__ import annotations

import gothreads
from gothreads import errors

PUBLIC = [
    "App", "AppClosed", "AppForked", "AppStatistics", "ArgumentError", "Backoff", "BuildError", "CallTimeout", "CallersBusy", "CompileError", "Context",
    "Frame", "GoStatistics", "Goroutine", "GothreadsError", "GuestError", "GuestExit", "GuestPanic", "GuestTrap", "HandlerError", "Host",
    "HostFunctionError", "InternalError", "LimitExceeded", "Limits", "MemoryAccessError", "MisuseError", "ModuleError", "Mount", "NotCallable",
    "Parameter", "QueueFull", "Restart", "SharedMemory", "Signature", "Stall", "Stalled", "State", "Supervised", "Supervision", "ToolchainError",
    "UnknownExport", "__version__", "open", "supervise",
]


def test_the_public_names_are_these() -> None:
    assert sorted(gothreads.__all__) == PUBLIC
    assert len(set(gothreads.__all__)) == len(gothreads.__all__)


def test_every_public_name_is_there() -> None:
    for name in gothreads.__all__:
        assert hasattr(gothreads, name), name


def test_every_error_is_public() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= set(gothreads.__all__)
