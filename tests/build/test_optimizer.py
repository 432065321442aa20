"""The optimizer, on programs of real Go: a module runs as before, with the same output, panics and stack traces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from gothreads.build.builder import Request, build
from gothreads.build.go_programs import compiled
from gothreads.build.optimizer import _SOURCE, optimize
from gothreads.build.toolchain import find_go
from gothreads.errors import BuildError

PROGRAM = _SOURCE / "testdata" / "program"
GO = find_go().go
Run = Callable[[Path, str], tuple[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimizer")


def stock(folder: Path) -> Path:
    module = folder / "stock.wasm"
    subprocess.run([GO, "build", "-o", module, "."], cwd=PROGRAM, env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm"}, check=True)
    return module


def threaded(_folder: Path) -> Path:
    return build(Request(str(PROGRAM))).path


def run_stock(module: Path, argument: str) -> tuple[str, str]:
    """What a module prints to its output and to its errors, in wasmtime."""
    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    linker.define_wasi()
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["program", argument]
    out, err = module.with_suffix(".out"), module.with_suffix(".err")
    wasi.stdout_file, wasi.stderr_file = str(out), str(err)
    store.set_wasi(wasi)
    instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(module)))
    start = instance.exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    with pytest.raises(wasmtime.ExitTrap) as ended:
        start(store)
    assert ended.value.code == 2
    return out.read_text(), err.read_text()


def run_threaded(module: Path, argument: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-m", "gothreads", "run", str(module), argument], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stdout, "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("gothreads: compil"))


def without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x…", text)


@pytest.mark.parametrize(("make", "run"), [(stock, run_stock), (threaded, run_threaded)])
def test_an_optimized_program_runs_as_before(folder: Path, make: Callable[[Path], Path], run: Run) -> None:
    module, optimized = make(folder), folder / f"{make.__name__}-optimized.wasm"
    optimize(GO, module, optimized, folder)
    out, err = run(module, "the end")
    assert "goroutine" in err
    assert out.count("\n") == 15
    optimized_out, optimized_err = run(optimized, "the end")
    assert optimized_out == out
    assert without_addresses(optimized_err) == without_addresses(err)


def test_optimizer_refuses_what_is_not_a_module(folder: Path) -> None:
    (folder / "none.wasm").write_bytes(b"no module")
    with pytest.raises(BuildError, match=r"none.wasm: not a WebAssembly module"):
        optimize(GO, folder / "none.wasm", folder / "out.wasm", folder)


def test_dump_prints_a_function(folder: Path) -> None:
    done = subprocess.run([compiled(GO, _SOURCE, folder), "-dump", "main.kind", stock(folder)], capture_output=True, text=True, check=True)
    assert "main.kind\nb0:\n" in done.stdout


def test_the_optimizers_own_tests_pass() -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("GOOS", "GOARCH", "GOFLAGS")}
    done = subprocess.run([GO, "test", "./..."], cwd=_SOURCE, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
