"""The call path in C (gothreads/csrc), where it was built; without it ctypes does the same, behind the same interface.

It is built when gothreads is installed, if there is a C compiler. GOTHREADS_FAST=0 in the environment leaves its calls out.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

#: The extension; None: there is none, and `missing` says why.
native: Any = None
missing: str | None = None
try:
    native = importlib.import_module("gothreads._fast")
except ImportError as error:
    missing = f"it was not built when gothreads was installed, for which a C compiler is needed ({error})"
#: The same where calls go through it.
compiled = native
if os.environ.get("GOTHREADS_FAST", "1") == "0":
    compiled, missing = None, "GOTHREADS_FAST=0"

#: What is in use.
PATH = "ctypes" if compiled is None else "C"
