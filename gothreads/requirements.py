"""What gothreads needs of the machine and of other packages, checked before anything else of gothreads is imported.

So this module imports nothing of gothreads, and nothing that some platform lacks. pyproject.toml says the same to pip
(tests/test_requirements.py compares them), but pip is often overruled: by --no-deps, or by another package's bounds.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import re
import sys
from dataclasses import dataclass

log = logging.getLogger("gothreads")


@dataclass(frozen=True)
class Tested:
    """A package of whose private parts gothreads uses some: the first version that will do, and the first that was not tested."""

    package: str
    least: str
    below: str

    def __str__(self) -> str:
        return f"{self.package}>={self.least},<{self.below}"

    @property
    def problem(self) -> str | None:
        """Why it cannot be used; None when it can."""
        found = self._found
        if found is None or _numbers(found) < _numbers(self.least):
            return f"gothreads needs {self}, and {f'{self.package} {found}' if found else 'none'} is installed: pip install '{self}'"
        return None

    @property
    def warning(self) -> str | None:
        """What to say of a version that is newer than those that were tested."""
        found = self._found
        if found is None or _numbers(found) < _numbers(self.below):
            return None
        return f"{self.package} {found} is newer than what gothreads was tested with. If something fails: pip install '{self}'"

    @functools.cached_property
    def _found(self) -> str | None:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


#: Calls go through its _ffi and _bindings (engine/ffi.py, csrc), and code is rewritten by what it makes of it (wasm/passes/threads.py).
WASMTIME = Tested("wasmtime", "50", "51")
#: serve/ extends its protocol for h11 and its server.
UVICORN = Tested("uvicorn", "0.54", "0.55")

#: The extras with commands of their own: the modules that each brings.
EXTRAS = {"serve": ("uvicorn", "starlette", "jinja2", "h11"), "compare": ("rich", "jinja2", "matplotlib", "psutil"), "stress": ("rich", "psutil")}


def _check() -> None:
    """ImportError where gothreads cannot run."""
    if not _in_main_interpreter():
        raise ImportError("gothreads works in the main interpreter only, and this is a subinterpreter. With mod_wsgi: "
                          "WSGIApplicationGroup %{GLOBAL}. Elsewhere, use threads, or processes", name="interpreter")
    if sys.platform != "linux":
        raise ImportError(f"gothreads runs on Linux, and this is {sys.platform}. Use a container, a virtual machine, or on Windows WSL", name="platform")
    if WASMTIME.problem is not None:
        raise ImportError(WASMTIME.problem, name="wasmtime")
    try:
        importlib.import_module("wasmtime")
    except (ImportError, OSError, RuntimeError) as error:  # it has no library for this machine
        raise ImportError(f"wasmtime cannot be loaded: {error}", name="wasmtime") from error


def _in_main_interpreter() -> bool:
    """What gothreads, ctypes and wasmtime know of calls, threads and signal handlers is the process's: a second copy, in a
    subinterpreter, would overwrite it. (csrc/module.c looks, too.)
    """
    for name in ("_interpreters", "_xxsubinterpreters"):  # from Python 3.13 on; before
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return bool(module.get_current() == module.get_main())
    return True  # this Python has none, or C tells


def lacking(extra: str) -> str | None:
    """What an extra lacks, and how to install it; None when it is there."""
    missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        return f"gothreads {extra} needs {', '.join(missing)}: pip install 'gothreads[{extra}]'"
    return UVICORN.problem if extra == "serve" else None


@functools.cache
def warn_once(tested: Tested) -> None:
    """Say in the log when a version is newer than those that were tested."""
    if tested.warning is not None:
        log.warning("%s", tested.warning)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


_check()
