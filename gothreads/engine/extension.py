"""Loads the C extension (gothreads/csrc), which makes calls fast; without it ctypes does the same, with one interface.

The extension is built when gothreads is installed, if there is a C compiler. With GOTHREADS_FAST=0 in the environment
it is loaded, but calls do not go through it.

Free-threaded builds of Python have an extension of their own, since objects have other fields there. But they import
`_fast.abi3.so` too, which a build with the GIL has left in the folder, and crash: so the file's name is looked at
before it is loaded. Until more is known of it, that extension is used only with GOTHREADS_FAST=1 in the environment.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sysconfig
from pathlib import Path
from typing import Any, TypeVar

from gothreads.version import installed_package

log = logging.getLogger("gothreads")

#: The version of the interface between Python and C, as in csrc/fast.h. An extension of another version is not used.
ABI = 6

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


def _load(package: Path) -> Any:
    """Import the extension. ImportError: there is none, or it does not fit this Python or this gothreads."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if FREE_THREADED and (spec := importlib.util.find_spec("gothreads._fast")) is not None \
            and not (spec.origin or "").endswith(suffix):
        raise ImportError(f"this is a free-threaded build of Python, which needs _fast{suffix}, not {spec.origin}",
                          name="gothreads._fast")
    found = importlib.import_module("gothreads._fast")
    if not package.samefile(Path(str(found.__file__)).parent):  # an editable install provides it to other checkouts
        raise ModuleNotFoundError(f"it is of another gothreads: {found.__file__}", name="gothreads._fast")
    if getattr(found, "ABI", None) != ABI:
        raise ImportError(f"it was built for another version of gothreads: {found.__file__}", name="gothreads._fast")
    return found


#: Whether this is a free-threaded build of Python, even if its GIL is on (PYTHON_GIL=1).
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

_fast = os.environ.get("GOTHREADS_FAST", "0" if FREE_THREADED else "1")

if FREE_THREADED and _fast != "1":
    missing = ("in free-threaded builds of Python it is new, and used only if GOTHREADS_FAST=1 is set. "
               "Otherwise use a build with the GIL")
else:
    _package = Path(__file__).parent.parent
    try:
        native = _load(_package)
    except ImportError as error:
        missing = why_missing(error, _package, installed_package())
#: The extension if calls go through it, else None.
compiled = native
if _fast == "0" and not FREE_THREADED:
    compiled, missing = None, "GOTHREADS_FAST=0"
if FREE_THREADED and compiled is None:
    log.warning("this is a free-threaded build of Python, with which little of gothreads is tested. Calls go through "
                "ctypes, which is about twenty times slower than in C: %s", missing)

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
