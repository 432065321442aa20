"""The public names: adding or removing one is a decision."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gothreads
from gothreads import errors

PUBLIC = [
    "App", "AppClosed", "AppForked", "AppStatistics", "ArgumentError", "AsgiApp", "Backoff", "BuildError", "ByteStream", "CallTimeout",
    "CallerStatistics", "CallersBusy", "CompileError", "Context",
    "Frame", "GoError", "GoStatistics", "Goroutine", "GothreadsError", "GuestError", "GuestExit", "GuestPanic", "GuestTrap",
    "HandlerError", "Host",
    "HostFunctionError", "InternalError", "LimitExceeded", "Limits", "MemoryAccessError", "MisuseError", "ModuleError",
    "Mount", "NotCallable",
    "Parameter", "PoolStatistics", "Profile", "QueueFull", "Remote", "RemoteFunction", "Restart", "SharedMemory", "Signature", "Stall", "Stalled", "State", "Stream", "Supervised",
    "Supervision", "ThreadStatistics", "ToolchainError",
    "UnknownExport", "__version__", "asgi", "open", "remote", "supervise",
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


def run(code: str) -> str:
    """The output of a program."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_import_loads_little() -> None:
    """Importing everything took 0.3 s of CPU time, and 280 modules. A fresh environment has 158 to load."""
    loaded = run("import sys; before = set(sys.modules); import gothreads; "
                 "print(*sorted(set(sys.modules) - before))").split()
    assert {name for name in loaded
            if name.startswith("gothreads")} <= {"gothreads", "gothreads.requirements", "gothreads.version"}
    assert not {"asyncio", "concurrent.futures", "http", "multiprocessing", "ssl"} & set(loaded)
    assert len(loaded) < 175, loaded


def test_type_checkers_see_the_names_where_they_are_found() -> None:
    block = next(node for node in ast.parse(Path(inspect.getfile(gothreads)).read_text()).body
                 if isinstance(node, ast.If))
    seen = {(alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom)
            for alias in node.names}
    assert seen == set(gothreads._PLACES.items())
    assert {name for name, _ in seen} | {"__version__"} == set(gothreads.__all__)
    for name, module in seen:
        assert getattr(gothreads, name) is getattr(importlib.import_module(str(module)), name)


def test_names_are_listed_before_they_are_used() -> None:
    assert run("import gothreads; print(set(gothreads.__all__) <= set(dir(gothreads)))") == "True\n"
    assert run("from gothreads import *; print(open.__module__, "
               "supervise.__module__)") == "gothreads.launch gothreads.supervise.app\n"


@pytest.mark.parametrize("first",
                         ["gothreads.supervise", "gothreads.supervise.restarts", "gothreads.supervise.app",
                          "gothreads.cli.main"])
def test_supervise_is_the_function_whatever_is_imported_first(first: str) -> None:
    assert run(f"import {first}, gothreads; print(gothreads.supervise.__qualname__, "
               f"gothreads.supervise.__module__)") == "supervise gothreads.supervise.app\n"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'gothreads' has no attribute 'opens'"):
        gothreads.opens  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(gothreads, "__wrapped__")
