"""What `open` takes besides a path: bytes, and resources of Python packages."""

from __future__ import annotations

import importlib
import importlib.resources
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import gothreads
from tests.support.modules import built

WASM = bytes(wasmtime.wat2wasm("""(module (memory (export "memory") 1)
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""))


@pytest.fixture(params=["folder", "zip"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A Python package with a module beside its code, installed in a folder or in a zip file on sys.path."""
    name = f"shipped_{request.param}"
    files = {f"{name}/__init__.py": b"", f"{name}/app.wasm": WASM,
             f"{name}/go/main.go": b"package main\nfunc main() {}\n"}
    place = tmp_path / "place"
    if request.param == "zip":
        place = tmp_path / "wheel.whl"
        with zipfile.ZipFile(place, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
    else:
        for path, content in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
    sys.path.insert(0, str(place))
    importlib.invalidate_caches()
    yield name
    sys.path.remove(str(place))
    sys.modules.pop(name, None)


def test_a_resource_is_opened(package: str) -> None:
    resource = importlib.resources.files(package) / "app.wasm"
    with gothreads.open(resource) as app:
        assert app.exports.add(2, 3) == 5
        assert app.loaded.name == "app.wasm"
        with pickle.loads(pickle.dumps(app)) as other:
            assert other.exports.add(2, 3) == 5
    with gothreads.supervise(resource) as supervised:
        assert supervised.exports.add(2, 3) == 5


def test_a_resource_that_is_missing(package: str) -> None:
    with pytest.raises(gothreads.ModuleError, match=r"missing\.wasm"):
        gothreads.open(importlib.resources.files(package) / "missing.wasm")


@pytest.mark.parametrize("package", ["zip"], indirect=True)
def test_a_go_package_in_a_zip_file_cannot_be_built(package: str) -> None:
    with pytest.raises(gothreads.ModuleError, match=r"go.* is a folder in an archive.*as_file"):
        gothreads.open(importlib.resources.files(package) / "go")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_content_of_a_module_is_opened(kind: type) -> None:
    with gothreads.open(kind(WASM)) as app:
        assert app.exports.add(2, 3) == 5


def test_a_program_is_opened_from_bytes_and_travels() -> None:
    with gothreads.open(built("calls").read_bytes(), args=("x",)) as app:
        assert app.exports.add(2, 3) == 5
        assert app.model == "threaded"
        with pickle.loads(pickle.dumps(app)) as other:
            assert other.exports.add(2, 3) == 5


@pytest.mark.parametrize(("content", "message"),
                         [(b"", "the file is empty"),
                          (b"package main\n", "module.wasm: text, not a WebAssembly module"),
                                                  (b"\0\1\2\3", "module.wasm: binary data, not a WebAssembly module"),
                                                  (WASM[:-3], "module.wasm: ")])
def test_content_that_is_no_module_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(gothreads.ModuleError, match=message):
        gothreads.open(content)


def test_content_is_for_a_model_as_a_file_is() -> None:
    with pytest.raises(gothreads.ModuleError, match=r"module\.wasm was built for the model threaded, not single, which pool runs\. Rebuild"):
        gothreads.open(built("calls").read_bytes(), model="pool")


@pytest.mark.parametrize("value", [None, 1, 1.5, ["app.wasm"], {"path": "app.wasm"}])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(gothreads.MisuseError, match="by its path, its bytes, or a resource"):
        gothreads.open(value)  # type: ignore[arg-type]
