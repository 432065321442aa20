"""Loads the C extension (gothreads/csrc), which makes calls fast; without it ctypes does the same, with one interface.

The extension is built when gothreads is installed, if there is a C compiler. With GOTHREADS_FAST=0 in the environment
it is loaded, but calls do not go through it.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, TypeVar

from gothreads.version import installed_package

#: The version of the interface between Python and C, as in csrc/fast.h. An extension of another version is not used.
ABI = 5

_Constant = TypeVar("_Constant", int, float, str)

#: The extension; None if there is none, and then `missing` says why.
native: Any = None
missing: str | None = None


def why_missing(error: ImportError, package: Path, installed: Path | None) -> str:
    """A message: why the extension is missing, and how to get it."""
    if error.name != "gothreads._fast" or not isinstance(error, ModuleNotFoundError):
        return f"it cannot be loaded ({error}). Install gothreads again"
    if installed is None:
        return (f"these are the sources in {package.parent}, in which nothing is compiled. "
                f"Install them: pip install -e {package.parent}")
    if package.resolve() != installed.resolve():
        return (f"these are the sources in {package.parent}, in which nothing is compiled. They shadow the gothreads "
                f"installed in {installed.parent}. Run it from another folder, or by the command `gothreads`; "
                f"or install the sources: pip install -e {package.parent}")
    return ("it was not built when gothreads was installed, which takes a C compiler and Python's headers. "
            "With these, install gothreads again: pip install --force-reinstall --no-cache-dir")


_package = Path(__file__).parent.parent
try:
    _found = importlib.import_module("gothreads._fast")
    if not _package.samefile(Path(str(_found.__file__)).parent):  # an editable install provides it to other checkouts
        raise ModuleNotFoundError(f"it is of another gothreads: {_found.__file__}", name="gothreads._fast")
    if getattr(_found, "ABI", None) != ABI:
        raise ImportError(f"it was built for another version of gothreads: {_found.__file__}", name="gothreads._fast")
    native = _found
except ImportError as error:
    missing = why_missing(error, _package, installed_package())
#: The extension if calls go through it, else None.
compiled = native
if os.environ.get("GOTHREADS_FAST", "1") == "0":
    compiled, missing = None, "GOTHREADS_FAST=0"

#: The call path in use.
PATH = "ctypes" if compiled is None else "C"


def shared(name: str, value: _Constant) -> _Constant:
    """Return `value`, a constant that C has too (csrc/fast.h).

    ImportError if the extension was built with another value, or without this constant.
    """
    if native is not None and (built := getattr(native, name, None)) != value:
        raise ImportError(f"gothreads' C extension was built with {name} = {built!r}, and its Python code has "
                          f"{value!r}. Install gothreads again: {native.__file__} is of another version",
                          name="gothreads._fast")
    return value
