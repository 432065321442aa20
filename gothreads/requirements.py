"""Checks what gothreads needs of the machine and of other packages, before anything else of gothreads is imported.

So this module imports nothing from gothreads, and nothing that some platform lacks. pyproject.toml states the same
for pip (tests/test_requirements.py compares them), but pip is often overruled: by --no-deps, or by another package's
bounds.
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
    """A package whose private parts gothreads uses: its first supported version, and the first untested one."""

    package: str
    least: str
    below: str

    def __str__(self) -> str:
        return f"{self.package}>={self.least},<{self.below}"

    @property
    def problem(self) -> str | None:
        """Why it cannot be used; None if it can."""
        found = self._found
        if found is None or version_numbers(found) < version_numbers(self.least):
            installed = f"{self.package} {found}" if found else "none"
            return f"gothreads needs {self}, and {installed} is installed: pip install '{self}'"
        return None

    @property
    def warning(self) -> str | None:
        """A warning about a version newer than the tested ones; None otherwise."""
        found = self._found
        if found is None or version_numbers(found) < version_numbers(self.below):
            return None
        return (f"{self.package} {found} is newer than what gothreads was tested with. If something fails: "
                f"pip install '{self}'")

    @functools.cached_property
    def _found(self) -> str | None:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


#: Calls use its _ffi and _bindings (engine/ffi.py, csrc); wasm/passes/threads.py is tuned to the code it generates.
WASMTIME = Tested("wasmtime", "50", "51")
#: serve/ extends its protocols for h11 and wsproto, and its server.
UVICORN = Tested("uvicorn", "0.54", "0.55")

#: The extras that have commands, or modules of their own: the modules that each needs.
EXTRAS = {"serve": ("uvicorn", "starlette", "jinja2", "h11", "wsproto", "prometheus_client", "watchfiles"),
          "compare": ("rich", "jinja2", "matplotlib", "psutil"),
          "stress": ("rich", "psutil"),
          "completion": ("shtab",),
          "dask": ("distributed",),
          "ray": ("ray", "fsspec", "cloudpickle")}
#: What `gothreads.asgi` needs of the extra `serve`. It runs under any server.
_ASGI = ("starlette", "jinja2", "prometheus_client")


def _check() -> None:
    """ImportError if gothreads cannot run here."""
    if not _in_main_interpreter():
        raise ImportError("gothreads works in the main interpreter only, and this is a subinterpreter. With mod_wsgi: "
                          "WSGIApplicationGroup %{GLOBAL}. Elsewhere, use threads, or processes", name="interpreter")
    if sys.platform != "linux":
        raise ImportError(f"gothreads runs on Linux, and this is {sys.platform}. Use a container, a virtual machine, "
                          "or on Windows WSL", name="platform")
    if WASMTIME.problem is not None:
        raise ImportError(WASMTIME.problem, name="wasmtime")
    try:
        importlib.import_module("wasmtime")
    except (ImportError, OSError, RuntimeError) as error:  # no library for this machine
        raise ImportError(f"wasmtime cannot be loaded: {error}", name="wasmtime") from error


def _in_main_interpreter() -> bool:
    """False in a subinterpreter.

    gothreads, ctypes and wasmtime keep per-process state about calls, threads and signal handlers, which a second copy,
    in a subinterpreter, would overwrite. (csrc/module.c checks too.)
    """
    for name in ("_interpreters", "_xxsubinterpreters"):  # the first from Python 3.13, the second before
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return bool(module.get_current() == module.get_main())
    return True  # no subinterpreters in this Python, or csrc/module.c checks


def lacking(extra: str) -> str | None:
    """What an extra lacks, and how to install it; None if it is complete."""
    if missing := missing_modules(extra):
        return f"gothreads {extra} needs {', '.join(missing)}: {install(extra)}"
    return UVICORN.problem if extra == "serve" else None


def lacking_for_asgi() -> str | None:
    """What `gothreads.asgi` lacks, and how to install it; None if nothing."""
    missing = [name for name in _ASGI if importlib.util.find_spec(name) is None]
    return f"gothreads.asgi needs {', '.join(missing)}: {install('serve')}" if missing else None


def missing_modules(extra: str) -> list[str]:
    """The modules that an extra needs and that are not there."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def install(extra: str) -> str:
    """The command that installs an extra. An installed gothreads stays as it is, wherever it came from."""
    return f"pip install 'gothreads[{extra}]'"


@functools.cache
def warn_once(tested: Tested) -> None:
    """Log a warning if the version is newer than the tested ones."""
    if tested.warning is not None:
        log.warning("%s", tested.warning)


def version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


_check()
