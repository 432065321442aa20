"""`gothreads stubs`: a Python package of a Go package, which type checkers understand."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

import gothreads
from gothreads.cli.main import main
from gothreads.packages.stubs import stub, write_package
from gothreads.packages.wheel import write_wheel
from gothreads.runtime.module_file import load
from gothreads.typed.schema import ClassSchema, Field, Schema, Type
from tests.support.modules import built

USE = '''
import asyncio
import io
import os
import pickle

import numpy
import shapes
from typing_extensions import assert_type

if (child := os.fork()) == 0:  # before the first call
    os._exit(shapes.add(1, 2))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3

options = shapes.Options(degree=3, n=2)
assert shapes.Options(3, 0.5) == shapes.Options(degree=3, rate=0.5)
assert pickle.loads(pickle.dumps(options)) == options
assert shapes.Options.__module__ == "shapes"
assert_type(shapes.echo_options(options), shapes.Options)
assert_type(options.degree, int)
assert_type(shapes.divide(7, 2), tuple[int, int])
assert_type(shapes.sum([1, 2.5], timeout=60), float)
print(shapes.sum(numpy.arange(3.0)), shapes.join("-", "a", "b"))
assert_type(shapes.Everything(numbers=[1.0], matrix=[[1, 2]], pointer=None).color, shapes.Color)
assert shapes.echo(shapes.Everything(matrix=numpy.ones((1, 2)))).matrix[0].tolist() == [1.0, 1.0]
with shapes.open(model="threaded") as app:
    assert app.types.Options is shapes.Options
    assert_type(app.divide(7, 2), tuple[int, int])
    assert app.loaded.trusted
for number in shapes.count(3):
    assert_type(number, int)
assert_type(list(shapes.enumerate(["a"])), list[tuple[int, str]])


with open(__file__, "rb") as file:
    assert_type(shapes.read_all(file), bytes)
assert shapes.copy(io.BytesIO(), io.BytesIO(b"ab")) == 2
assert list(shapes.apply([1.0], lambda x: x + 1)) == [2.0]


async def visit(index: int, each: shapes.Options) -> bool:
    return each.degree == index

assert_type(shapes.visit([options], visit), int)
shapes.tell(io.StringIO().write, "a")
shapes.exchange(lambda *_: (None, shapes.Level.LOW, ["a"]))


async def main() -> int:
    async for each in await shapes.receive_async(1, False):
        assert_type(each, shapes.Options)
    return await shapes.add_async(1, 2)

print(asyncio.run(main()))
try:
    shapes.fail("parse")
except shapes.ParseError as error:
    assert_type(error.line, int)
    print(error)
'''
USE_IMPORTS = '''
import shop

class Prices:
    async def price(self, item: shop.Item) -> float:
        return 1.5

    def total(self, *prices: float) -> tuple[float, int]:
        return sum(prices), len(prices)

    def url_of(self, name: str) -> str | None:
        return None

with shop.open(imports={"prices": Prices, "notify_all": lambda text, data: None, "clock": lambda: 7}, procs=1) as app:
    print(app.cost([shop.Item(name="tea", count=2)]), app.clock())
'''
WRONG = '''
import shapes

shapes.add(1, "x")
shapes.echo_options(shapes.Point(x=1))
shapes.Options(degree="x")
shapes.add(1)
shapes.nothing(timeout="x")
shapes.apply([1.0], len)
shapes.read_all(b"x")
'''
WRONG_IMPORTS = '''
import shop

class Prices:
    def price(self, item: int) -> float:
        return 1

    def total(self, *prices: float) -> tuple[float, int]:
        return 1, 2

    def url_of(self, name: str) -> str | None:
        return name

shop.open(procs=1)
shop.open(imports={"clock": lambda: 7})
shop.open(imports={"prices": Prices, "notify_all": print, "clock": lambda: 7})
shop.open(imports={"prices": Prices(), "notify_all": print, "clock": lambda: 7}, procs="x").cost([1])
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `shapes`."""
    folder = tmp_path_factory.mktemp("packages")
    assert write_package(load(built("typed")), folder / "shapes") == [
        "__init__.py", "__init__.pyi", "py.typed", "module.json", "module.wasm"]
    write_package(load(built("imports")), folder / "shop")
    for name, text in {"use": USE, "use_imports": USE_IMPORTS, "wrong": WRONG, "wrong_imports": WRONG_IMPORTS}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def python(folder: Path, *args: str, where: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python where it finds the packages of a folder, or of a wheel."""
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return subprocess.run([sys.executable, *args], cwd=where or folder, env=os.environ | {"PYTHONPATH": path},
                          capture_output=True, text=True, check=False)


def test_a_package_is_imported_and_its_functions_are_called(folder: Path) -> None:
    done = python(folder, "-W", "default", "use.py")
    assert (done.stdout, done.returncode) == ("3.0 a-b\n3\nline 3: what?\n", 0), done.stderr
    assert "ResourceWarning" not in done.stderr


def test_a_package_that_needs_python_is_opened_with_it(folder: Path) -> None:
    done = python(folder, "use_imports.py")
    assert (done.stdout, done.returncode) == ("3.0 7\n", 0), done.stderr


def test_a_package_without_its_files_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    package = tmp_path / "broken"
    package.mkdir()
    (package / "__init__.py").write_text((folder / "shapes" / "__init__.py").read_text())
    done = python(tmp_path, "-c", "import broken")
    assert "ModuleError: broken: module.json cannot be read: " in done.stderr
    assert done.stderr.endswith("Write the package again: gothreads stubs, or gothreads wheel\n")


ELSEWHERE = """
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import gothreads

if __name__ == "__main__":
    if {before}:  # then the classes lie elsewhere
        app = gothreads.open("shapes/module.wasm", trust=True)
    import shapes
    assert pickle.loads(pickle.dumps(shapes.add)) is shapes.add
    assert pickle.loads(pickle.dumps(shapes.open)) is shapes.open
    assert pickle.loads(pickle.dumps(shapes.add_async)) == shapes.add_async
    assert shapes.add(1, 2) == 3
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        print(list(pool.map(shapes.add, [1, 2], [3, 4])), pool.submit(shapes.options_scaled, shapes.Options(degree=2), 3).result().degree)
    with shapes.open(args=["a"]) as app, pickle.loads(pickle.dumps(app)) as other:
        assert (other.loaded.name, other.options.wasi.args, other.types.Options) == (
            "shapes", ["shapes", "a"], app.types.Options)
"""


@pytest.mark.parametrize("before", [False, True])
def test_functions_and_values_of_a_package_travel_to_another_process(folder: Path, before: bool) -> None:
    (folder / "elsewhere.py").write_text(ELSEWHERE.replace("{before}", str(before)))
    done = python(folder, "elsewhere.py")
    assert (done.stdout, done.returncode) == ("[4, 6] 6\n", 0), done.stderr


def test_errors_have_the_name_of_the_package(folder: Path) -> None:
    done = python(folder, "-c", "import shapes\nshapes.exit(7)")
    assert "gothreads.errors.GuestExit: shapes: the module has ended: exit code 7" in done.stderr
    done = python(folder, "-c", "import shop\nshop.clock()")
    assert "gothreads.errors.MisuseError: shop: " in done.stderr


@pytest.mark.parametrize(("name", "what"), [("open", "open()"), ("Options", "class Options"),
                                            ("ErrZero", "class ErrZero")])
def test_a_function_whose_name_the_package_has_is_refused(tmp_path: Path, name: str, what: str) -> None:
    loaded = load(built("typed"))
    assert loaded.metadata is not None
    assert loaded.metadata.typed is not None
    description = copy.deepcopy(dict(loaded.metadata.typed))
    description["functions"][0]["name"] = name
    renamed = replace(loaded, metadata=replace(loaded.metadata, typed=description))
    for write in (lambda: write_package(renamed, tmp_path / "p"), lambda: write_wheel(renamed, tmp_path, "p", "1.0")):
        with pytest.raises(gothreads.MisuseError) as raised:
            write()
        assert str(raised.value) == (
            f"{description['functions'][0]['position']}: {name} would hide the package's {what}. Give the function "
            f"another name in Python: //gothreads:export {name}_it")
    assert [*tmp_path.iterdir()] == []


def test_a_field_may_have_the_name_of_the_object() -> None:
    fields = (Field("self", "int", Type("int64"), ""),)
    compile(stub(Schema(classes=(ClassSchema("Node", "Node", "", 1, fields, ()),)), "p"), "p.pyi", "exec")


def editable() -> list[str]:
    """Where type checkers find gothreads; empty if it is installed where they look."""
    where = str(Path(gothreads.__file__).parent.parent)
    return [] if where in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else [where]


@pytest.mark.long
def test_mypy_accepts_right_uses_and_reports_wrong_ones(folder: Path) -> None:
    environment = os.environ | {"MYPYPATH": os.pathsep.join(editable())}
    said = {}
    for name in ("use", "use_imports", "wrong", "wrong_imports"):
        done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--no-incremental", f"{name}.py"], cwd=folder,
                              env=environment, capture_output=True, text=True, check=False)
        errors = [line.partition(": error: ") for line in done.stdout.splitlines() if "error:" in line]
        said[name] = [(int(where.rpartition(":")[2]), why.partition("  [")[0]) for where, _, why in errors]
    assert said["use"] == said["use_imports"] == []
    assert said["wrong"] == [
        (4, 'Argument 2 to "add" has incompatible type "str"; expected "int"'),
        (5, 'Argument 1 to "echo_options" has incompatible type "Point"; expected "Options"'),
        (6, 'Argument "degree" to "Options" has incompatible type "str"; expected "int"'),
        (7, 'Missing positional argument "b" in call to "add"'),
        (8, 'Argument "timeout" to "nothing" has incompatible type "str"; expected "float | None"'),
        (9, 'Argument 2 to "apply" has incompatible type "Callable[[Sized], int]"; expected '
            '"Callable[[float], float | Awaitable[float]]"'),
        (10, 'Argument 1 to "read_all" has incompatible type "bytes"; expected "_Reads | _ReadsInto"')]
    assert said["wrong_imports"] == [
        (14, 'Missing named argument "imports" for "open"'),
        (15, 'Missing keys ("prices", "notify_all") for TypedDict "_Imports"'),
        (16, 'Incompatible types (expression has type "type[Prices]", TypedDict item "prices" has type '
             '"_Import_prices | Callable[[], _Import_prices]")'),
        (17, 'Incompatible types (expression has type "Prices", TypedDict item "prices" has type '
             '"_Import_prices | Callable[[], _Import_prices]")'),
        (17, 'Argument "procs" to "open" has incompatible type "str"; expected "int | None"'),
        (17, 'List item 0 has incompatible type "int"; expected "Item"')]


@pytest.mark.long
def test_pyright_accepts_right_uses_and_reports_wrong_ones(folder: Path) -> None:
    (folder / "pyrightconfig.json").write_text(json.dumps({
        "typeCheckingMode": "strict", "extraPaths": editable(), "include": ["*.py", "shapes", "shop"]}))
    done = subprocess.run([sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"],
                          cwd=folder, capture_output=True, text=True, check=False)
    found = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["rule"])
             for each in json.loads(done.stdout)["generalDiagnostics"]]
    assert found == [
        *(("wrong.py", line, "reportCallIssue" if line == 7 else "reportArgumentType") for line in range(4, 11)),
        ("wrong_imports.py", 14, "reportCallIssue"),
        *(("wrong_imports.py", line, "reportArgumentType") for line in (15, 16, 17, 17, 17))]


def test_the_command_refuses_what_is_no_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stubs", str(built("typed")), "-o", str(tmp_path / "a-b")]) != 0
    assert "must be a name in Python" in capsys.readouterr().err
    assert main(["stubs", str(built("json")), "-o", str(tmp_path / "ab")]) != 0
    assert "has no typed functions. In Go, put //gothreads:export above a function" in capsys.readouterr().err
    assert main(["stubs", str(built("typed")), "-o", str(tmp_path / "ab")]) == 0
    assert sorted(path.name for path in (tmp_path / "ab").iterdir()) == [
        "__init__.py", "__init__.pyi", "module.json", "module.wasm", "py.typed"]
