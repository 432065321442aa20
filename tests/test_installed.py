"""The tests test the gothreads that is installed: whole, and with its calls in C."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import gothreads
from gothreads.host import fast
from tests.conftest import ROOT, installed

PACKAGE = Path(gothreads.__file__).parent
SHOW = "import gothreads; print(gothreads.__file__)"


def test_the_tests_import_what_is_installed() -> None:
    assert installed() == PACKAGE


@pytest.mark.parametrize("arguments", [["-c", SHOW], ["-m", "tests.test_installed"]], ids=["-c", "-m"])
def test_a_process_that_a_test_starts_in_the_checkout_imports_what_is_installed(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == gothreads.__file__


def test_calls_are_in_c_where_c_can_be_compiled() -> None:
    """The extension is optional (pyproject.toml): an install succeeds without it, and C that does not compile would go
    unnoticed.
    """
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    if shutil.which(os.environ.get("CC", "cc")) and headers and os.environ.get("GOTHREADS_FAST") != "0":
        assert fast.compiled is not None, f"{fast.missing}. To see why: pip install -v ."
        assert Path(fast.compiled.__file__).parent == PACKAGE


def test_what_is_installed_is_whole_and_of_these_sources() -> None:
    """Every file of the checkout's package is installed, and the same: Go files, workloads, pages."""
    here = ROOT / "gothreads"
    files = [path.relative_to(here) for path in here.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".so")]
    assert len(files) > 100
    differ = [str(path) for path in files
              if not (PACKAGE / path).is_file() or (PACKAGE / path).read_bytes() != (here / path).read_bytes()]
    assert differ == [], "not installed, or not as here: install it again"
    if fast.compiled is not None:
        newest = max((here / "csrc").iterdir(), key=lambda path: path.stat().st_mtime)
        compiled = Path(fast.compiled.__file__)
        assert compiled.stat().st_mtime > newest.stat().st_mtime, f"{newest.name} has changed since: install it again"


if __name__ == "__main__":
    exec(SHOW)
