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
from gothreads.engine import extension
from gothreads.version import installed_package
from tests.support.modules import ROOT

PACKAGE = Path(gothreads.__file__).parent
SHOW = "import gothreads; print(gothreads.__file__)"


def test_the_tests_import_what_is_installed() -> None:
    assert installed_package() == PACKAGE


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
        assert extension.compiled is not None, f"{extension.missing}. To see why: pip install -v ."
        assert Path(extension.compiled.__file__).parent == PACKAGE


def test_what_is_installed_is_whole_and_of_these_sources() -> None:
    """Every file of the checkout's package is installed, and the same: Go files, workloads, pages."""
    here = ROOT / "gothreads"
    files = [path.relative_to(here) for path in here.rglob("*") if path.is_file()
             and path.suffix not in (".pyc", ".so")]
    assert len(files) > 100
    differ = [str(path) for path in files
              if not (PACKAGE / path).is_file() or (PACKAGE / path).read_bytes() != (here / path).read_bytes()]
    assert differ == [], "not installed, or not as here: install it again"
    if extension.compiled is not None:
        newest = max((here / "csrc").iterdir(), key=lambda path: path.stat().st_mtime)
        compiled = Path(extension.compiled.__file__)
        assert compiled.stat().st_mtime > newest.stat().st_mtime, f"{newest.name} has changed since: install it again"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of another place, as git has it: nothing is compiled."""
    for folder in ("gothreads", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def run_in(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python, as a user runs it there: the folder comes before what is installed."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "GOTHREADS_FAST")}
    return subprocess.run([sys.executable, *arguments], cwd=checkout, env=kept | environment, capture_output=True,
                          text=True)


def test_sources_that_shadow_what_is_installed_are_named_with_what_to_do(checkout: Path) -> None:
    done = run_in(checkout, "-m", "gothreads", "doctor")
    (line,) = (line for line in done.stdout.splitlines() if line.split()[1] == "calls")
    assert line.startswith("warning  calls")
    assert f"the sources in {checkout}, in which nothing is compiled" in line
    assert f"shadow the gothreads installed in {PACKAGE.parent}." in line
    assert line.endswith(f"by the command `gothreads`; or install the sources: pip install -e {checkout}")
    assert "compiler" not in line
    (line,) = (line for line in done.stdout.splitlines() if line.split()[1] == "gothreads")
    assert line.startswith(f"warning  gothreads    {gothreads.__version__}, in {checkout / 'gothreads'}, which shadows "
                           f"the gothreads installed in {PACKAGE}.")


@pytest.mark.parametrize(("error", "installed", "said"), [
    (ModuleNotFoundError("no", name="gothreads._fast"), None, "Install them: pip install -e /here"),
    (ModuleNotFoundError("no", name="gothreads._fast"), Path("/here/gothreads"),
     "takes a C compiler and Python's headers"),
    (ImportError("undefined symbol: x", name="gothreads._fast"), Path("/here/gothreads"),
     "cannot be loaded (undefined symbol: x)"),
])
def test_why_there_is_no_extension(error: ImportError, installed: Path | None, said: str) -> None:
    assert said in extension.why_missing(error, Path("/here/gothreads"), installed)


@pytest.mark.long
def test_benchmarks_refuse_to_measure_without_c_unless_that_is_asked_for(checkout: Path) -> None:
    program = "import sys; from benchmarks.command import run; sys.exit(run('', lambda rounds: {}, print))"
    refused = run_in(checkout, "-c", program)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"the sources in {checkout}" in refused.stderr
    assert "To measure without it all the same: GOTHREADS_FAST=0" in refused.stderr
    for name in ("targets", "comparison"):
        assert "GOTHREADS_FAST=0" in run_in(checkout, "-m", f"benchmarks.{name}").stderr
    assert run_in(checkout, "-c", program, GOTHREADS_FAST="0").stdout == "{} 7\n"


if __name__ == "__main__":
    exec(SHOW)


def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback() -> None:
    program = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "gothreads.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
import gothreads_command
gothreads_command.run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_command_looks_for_garbage_but_not_among_what_its_imports_have_made() -> None:
    program = ("import gc, gothreads.cli.main as main\n"
               "main.run = lambda: print(gc.isenabled(), gc.get_freeze_count() > 10_000)\n"
               "import gothreads_command\ngothreads_command.run()\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
