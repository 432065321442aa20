"""`gothreads wheel`: one file that pip installs, with a Go package as a Python package."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

import gothreads
from gothreads.packages.wheel import write_wheel
from gothreads.runtime.module_file import load
from tests.packages.test_stubs import python
from tests.support.command_line import command
from tests.support.modules import built

FILES = ["__init__.py", "__init__.pyi", "py.typed", "module.json", "module.wasm"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheel(load(built("typed")), tmp_path_factory.mktemp("wheels"), "Shapes", "1.2.3")


def test_a_wheel_has_the_package_and_what_pip_wants_to_know(wheel: Path) -> None:
    assert wheel.name == "shapes-1.2.3-py3-none-any.whl"
    found, = Distribution.discover(path=[str(wheel)])
    assert (found.name, found.version, found.requires) == ("shapes", "1.2.3", [f"gothreads>={gothreads.__version__}"])
    assert found.metadata["Requires-Python"] == ">=3.11"
    assert found.metadata["Summary"] == "Functions of the Go package typed"
    archive = zipfile.ZipFile(wheel)
    assert archive.testzip() is None
    assert [name for name in archive.namelist() if name.startswith("Shapes/")] == [f"Shapes/{name}" for name in FILES]
    parts = [line.partition(",") for line in str(found.read_text("RECORD")).splitlines()]
    listed = {name: rest for name, _, rest in parts}
    assert [*listed] == archive.namelist()
    for name, rest in listed.items():
        content = archive.read(name)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert rest == ("," if name.endswith("RECORD") else f"sha256={digest},{len(content)}")


def test_the_same_module_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    again = write_wheel(load(built("typed")), tmp_path / "made", "Shapes", "1.2.3")
    assert again.read_bytes() == wheel.read_bytes()


def test_a_wheel_is_used_from_where_it_lies_and_unpacked(wheel: Path, tmp_path: Path) -> None:
    use = "import Shapes; print(Shapes.add(1, 2), Shapes.echo_options(Shapes.Options(degree=3)).degree)"
    done = python(wheel, "-c", use, where=tmp_path)
    assert (done.stdout, done.returncode) == ("3 3\n", 0), done.stderr
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = python(tmp_path / "site", "-c", use)
    assert (done.stdout, done.returncode) == ("3 3\n", 0), done.stderr


@pytest.mark.parametrize(("options", "why"), [
    (["--name", "a-b"], "'a-b' cannot be a package's name in Python. Choose another: --name NAME"),
    (["--name", "class"], "'class' cannot be a package's name in Python. Choose another: --name NAME"),
    (["--name", "ab", "--version", "1.x"], "--version 1.x: expected a version such as 1.0 or 1.2.3rc1"),
    (["--name", "ab", "--version", "1.0/../x"], "--version 1.0/../x: expected a version such as 1.0 or 1.2.3rc1"),
])
def test_names_and_versions_that_pip_would_refuse(tmp_path: Path, options: list[str], why: str) -> None:
    code, _, err = command("wheel", built("typed"), "-o", tmp_path, *options)
    assert code != 0
    assert why in err
    assert [*tmp_path.iterdir()] == []


def test_the_command_writes_the_wheel_and_says_where(tmp_path: Path) -> None:
    code, _, err = command("wheel", built("typed"), "-o", tmp_path / "dist", "--name", "shapes", "--version", "2.0rc1")
    assert (code, err) == (0, f"gothreads: pip install {tmp_path}/dist/shapes-2.0rc1-py3-none-any.whl where gothreads "
                              f"{gothreads.__version__} or later is installed, or where pip finds it; then: import shapes\n")
    assert (tmp_path / "dist" / "shapes-2.0rc1-py3-none-any.whl").is_file()
    code, _, err = command("wheel", built("json"), "-o", tmp_path, "--name", "ab")
    assert code != 0
    assert "has no typed functions. In Go, put //gothreads:export above a function" in err
