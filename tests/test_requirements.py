"""Where gothreads cannot run, or a package is missing or of another version than was tested, that is said in one line,
with what to do.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import wasmtime

import gothreads
from gothreads.requirements import EXTRAS, UVICORN, WASMTIME, version_numbers
from tests.support.modules import ROOT
from tests.support.waiting import PATIENCE

#: Where gothreads is installed.
SITE = Path(gothreads.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = "gothreads needs wasmtime>=50,<51, and {} is installed: pip install 'wasmtime>=50,<51'"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of packages with gothreads and wasmtime, and no others."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for at in (SITE / "gothreads", SITE / "gothreads_command.py", Path(wasmtime.__file__).parent):
        (folder / at.name).symlink_to(at)
    version_of(folder, "wasmtime", metadata.version("wasmtime"))
    return folder


def version_of(folder: Path, package: str, version: str) -> None:
    """Let a package in the folder be of a version, as pip would note it there."""
    for old in folder.glob(f"{package}-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    about = folder / f"{package}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def python(folder: Path, program: str, *argv: str) -> tuple[int, str, str]:
    """Run a program that finds packages in the folder only: exit code, standard output, standard error."""
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{program}", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=folder,
                          env=os.environ | {"PYTHONPATH": ""})
    return done.returncode, done.stdout, done.stderr


def command(folder: Path, *argv: str, before: str = "") -> tuple[int, str, str]:
    """The console script."""
    return python(folder, f"{before}\nfrom gothreads_command import run; run()", *argv)


def test_pip_is_told_the_same_versions() -> None:
    optional = PROJECT["optional-dependencies"]
    assert PROJECT["dependencies"] == [str(WASMTIME), "msgspec>=0.20"]
    assert str(UVICORN) in optional["serve"]
    for extra, modules in EXTRAS.items():
        packages = [re.split(r"[\[>]", requirement)[0].replace("-", "_") for requirement in optional[extra]
                    if not requirement.startswith("gothreads[")]
        assert sorted(packages) == sorted(modules)
    assert PROJECT["scripts"] == {"gothreads": "gothreads_command:run"}


def test_what_is_installed_here_is_what_was_tested() -> None:
    for tested in (WASMTIME, UVICORN):
        assert (tested.problem, tested.warning) == (None, None)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_on_other_systems_the_import_says_where_it_runs_and_nothing_else_is_imported(bare: Path, platform: str) -> None:
    program = (f"import sys; sys.platform = {platform!r}\n"
               "try:\n    import gothreads\n"
               "except ImportError as error:\n    print(error)\n"
               "print([name for name in sys.modules if name.partition('.')[0] in ('gothreads', 'wasmtime', 'fcntl', "
               "'resource')])")
    code, out, err = python(bare, program)
    said = f"gothreads runs on Linux, and this is {platform}. Use a container, a virtual machine, or on Windows WSL"
    assert (code, out, err) == (0, f"{said}\n[]\n", "")
    elsewhere = f"sys.platform = {platform!r}"
    assert command(bare, "run", "app.wasm", before=elsewhere) == (1, "", f"gothreads: {said}\n")
    assert command(bare, "doctor", before=elsewhere) == (1, f"problem  platform  {said}\n", "")
    _, out, _ = command(bare, "doctor", "--json", before=elsewhere)
    assert json.loads(out) == {"findings": [{"name": "platform", "state": "problem", "words": said}], "ok": False}


@pytest.mark.parametrize(("version", "found"),
                         [("49.0.0", "wasmtime 49.0.0"), ("9.0.0", "wasmtime 9.0.0"), (None, "none")])
def test_a_wasmtime_that_is_too_old_or_missing_is_an_import_error_that_says_what_to_install(
    bare: Path, version: str | None, found: str
) -> None:
    if version is None:
        next(bare.glob("wasmtime-*")).rename(bare / "nothing")
    else:
        version_of(bare, "wasmtime", version)
    said = NEEDED.format(found)
    assert python(bare, "import gothreads")[2].splitlines()[-1] == f"ImportError: {said}"
    assert command(bare, "run", "app.wasm") == (1, "", f"gothreads: {said}\n")
    assert command(bare, "doctor") == (1, f"problem  wasmtime  {said}\n", "")


def test_a_wasmtime_without_a_library_for_this_machine_is_an_import_error(bare: Path) -> None:
    (bare / "wasmtime").unlink()
    (bare / "wasmtime.py").write_text("raise RuntimeError('unsupported architecture for wasmtime: riscv64')\n")
    assert command(bare, "doctor") == (1,
                                       "problem  wasmtime  wasmtime cannot be loaded: unsupported architecture for "
                                       "wasmtime: riscv64\n", "")


@pytest.mark.long
def test_a_wasmtime_newer_than_was_tested_runs_and_is_said_once(bare: Path, calls: Path) -> None:
    version_of(bare, "wasmtime", "51.0.0")
    said = ("wasmtime 51.0.0 is newer than what gothreads was tested with. If something fails: pip install "
            "'wasmtime>=50,<51'")
    program = ("import gothreads\nfor _ in range(2):\n    with gothreads.open(sys.argv[1], progress=False) as app:\n"
               "        print(app.exports.add(2, 3))")
    assert python(bare, program, str(calls)) == (0, "5\n5\n", f"{said}\n")
    code, out, err = command(bare, "doctor")
    assert (code,
            [line for line in out.splitlines() if "  wasmtime  " in line]) == (0, [f"warning  wasmtime     {said}"])
    assert err == f"gothreads: {said}\n"


@pytest.mark.long
@pytest.mark.parametrize(("extra", "argv"),
                         [("serve", ["x.wasm"]), ("compare", []), ("stress", []), ("completion", ["bash"])])
def test_a_command_without_its_extra_names_it(bare: Path, extra: str, argv: list[str]) -> None:
    needs, install = f"needs {', '.join(EXTRAS[extra])}", f"pip install 'gothreads[{extra}]'"
    assert command(bare, extra, *argv) == (1, "", f"gothreads: gothreads {extra} {needs}: {install}\n")
    assert (f"absent   {extra:11}  not installed (optional: `gothreads {extra}` {needs}): {install}\n"
            in command(bare, "doctor")[1])


def test_an_asgi_application_without_the_extra_names_it(bare: Path) -> None:
    code, _, err = python(bare, "from gothreads import *\nasgi('x.wasm')")
    assert (code, err.splitlines()[-1]) == (1, "ImportError: gothreads.asgi needs starlette, jinja2, prometheus_client: pip install "
                                               "'gothreads[serve]'")


def test_a_uvicorn_of_another_version_is_refused_when_older_and_told_when_newer(bare: Path) -> None:
    for package in ("starlette", "jinja2", "h11", "wsproto", "uvicorn", "prometheus_client", "watchfiles", "anyio", "idna", "click", "markupsafe",
                    "typing_extensions"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        at = Path(spec.origin)
        at = at.parent if at.name == "__init__.py" else at
        (bare / at.name).symlink_to(at)
    version_of(bare, "uvicorn", "0.30.0")
    assert command(bare, "serve", "x.wasm") == (1, "",
                                                f"gothreads: gothreads needs {UVICORN}, and uvicorn 0.30.0 is "
                                                f"installed: pip install '{UVICORN}'\n")
    version_of(bare, "uvicorn", "0.99.0")
    said = f"uvicorn 0.99.0 is newer than what gothreads was tested with. If something fails: pip install '{UVICORN}'"
    code, _, err = command(bare, "serve", "--port", "0", "x.wasm")
    assert (code, err.splitlines()) == (1, [f"gothreads: {said}", f"gothreads: there is no file x.wasm in {bare}"])
    assert f"warning  serve        {said}" in command(bare, "doctor")[1]


def test_versions_compare_as_numbers() -> None:
    assert version_numbers("9.0.0") < version_numbers("50") <= version_numbers("50.0.1") < version_numbers("51")
    assert version_numbers("51.0.0rc1") >= version_numbers("51")
    assert version_numbers("0.54.1.post1") < version_numbers("0.55")
