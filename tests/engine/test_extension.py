"""The C extension fits the Python code: the version of their interface, and the constants that both have."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

from gothreads.engine import extension

OTHER = """
import importlib.util, pathlib, sys, types
other = types.ModuleType("gothreads._fast")
other.__file__ = str(pathlib.Path(importlib.util.find_spec("gothreads").origin).parent / "_fast.abi3.so")
other.__dict__.update({attributes})
sys.modules["gothreads._fast"] = other
import gothreads
from gothreads.engine import extension
print(extension.native, extension.PATH, extension.missing)
"""


def run(folder: Path, attributes: dict[str, object]) -> str:
    """The output of a process in which the extension has only these attributes."""
    environment = {name: value for name, value in os.environ.items() if name != "GOTHREADS_FAST"}
    done = subprocess.run([sys.executable, "-c", OTHER.format(attributes=attributes)], cwd=folder, env=environment,
                          capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("attributes", [{}, {"ABI": extension.ABI + 1}, {"ABI": None}])
def test_an_extension_built_for_another_version_is_not_used(tmp_path: Path, attributes: dict[str, object]) -> None:
    said = run(tmp_path, attributes)
    assert said.startswith("None ctypes it cannot be loaded (it was built for another version of gothreads: ")
    assert said.endswith("_fast.abi3.so). Install gothreads again\n")


@pytest.mark.parametrize(("built", "shown"), [({"KEEP": 5}, "5"), ({}, "None"), ({"KEEP": "6"}, "'6'")])
def test_a_shared_constant_that_differs_in_c_is_an_import_error(
        monkeypatch: pytest.MonkeyPatch, built: dict[str, object], shown: str) -> None:
    monkeypatch.setattr(extension, "native", SimpleNamespace(__file__="/there/_fast.so", **built))
    with pytest.raises(ImportError) as caught:
        extension.shared("KEEP", 6)
    assert str(caught.value) == (f"gothreads' C extension was built with KEEP = {shown}, and its Python code has 6. "
                                 "Install gothreads again: /there/_fast.so is of another version")
    assert caught.value.name == "gothreads._fast"


def test_a_shared_constant_is_what_it_is_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extension.shared("ABI", extension.ABI) == extension.ABI
    monkeypatch.setattr(extension, "native", None)
    assert extension.shared("KEEP", 6) == 6


FREE_THREADED = """
import sys, sysconfig
assert sysconfig.get_config_var("Py_GIL_DISABLED") in (None, 0)
sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
import gothreads
from gothreads.engine import extension
print("gothreads._fast" in sys.modules, extension.native, extension.PATH)
print(extension.missing)
with gothreads.open(sys.argv[1]) as app:
    print(app.exports.add(2, 3))
"""


@pytest.mark.skipif(extension.native is None or extension.FREE_THREADED, reason="nothing could be loaded")
@pytest.mark.parametrize(("fast", "missing"), [
    ("", "in free-threaded builds of Python it is new, and used only if GOTHREADS_FAST=1 is set. Otherwise use a build "
         "with the GIL"),
    ("1", f"it cannot be loaded (this is a free-threaded build of Python, which needs "
          f"_fast{sysconfig.get_config_var('EXT_SUFFIX')}, not {extension.native and extension.native.__file__}). "
          "Install gothreads again")])
def test_a_free_threaded_python_loads_no_extension_of_another_abi(calls: Path, fast: str, missing: str) -> None:
    """It would import _fast.abi3.so, and crash. (Here Python only says that it is such a build.)"""
    done = subprocess.run([sys.executable, "-c", FREE_THREADED, str(calls)], capture_output=True, text=True, check=True,
                          env=os.environ | {"GOTHREADS_FAST": fast})
    assert done.stdout == f"False None ctypes\n{missing}\n5\n"
    assert done.stderr.startswith("this is a free-threaded build of Python, with which little of gothreads is tested. ")
