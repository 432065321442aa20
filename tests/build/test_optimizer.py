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

import gothreads
from gothreads.build.builder import build
from gothreads.build.optimizer import SOURCE, Passes, compiled, native_environment, optimized
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.cli.main import main
from gothreads.errors import BuildError, MisuseError
from gothreads.files import cache_folder
from gothreads.launch import find
from gothreads.wasm.parsing import function_names, parse
from tests.support.modules import MODULES

PROGRAM = SOURCE / "testdata" / "program"
GO = find_go().go
Run = Callable[[Path, str], tuple[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimizer")


def stock(folder: Path) -> Path:
    module = folder / "stock.wasm"
    subprocess.run([GO, "build", "-o", module, "."], cwd=PROGRAM, env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm"}, check=True)
    return module


@pytest.fixture(autouse=True)
def off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole suite may run with fast bodies; these tests compare."""
    monkeypatch.delenv("GOTHREADS_OPTIMIZE", raising=False)


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


@pytest.mark.long
@pytest.mark.parametrize("passes", ["rewrite", "fast"])
@pytest.mark.parametrize(("make", "run"), [(stock, run_stock), (threaded, run_threaded)])
def test_an_optimized_program_runs_as_before(folder: Path, make: Callable[[Path], Path], run: Run, passes: Passes) -> None:
    module, target = make(folder), folder / f"{make.__name__}-{passes}.wasm"
    target.write_bytes(optimized(GO, module.read_bytes(), cache_folder(), passes))
    out, err = run(module, "the end")
    assert "goroutine" in err
    assert out.count("\n") == 15
    optimized_out, optimized_err = run(target, "the end")
    assert optimized_out == out
    assert without_addresses(optimized_err) == without_addresses(err)


@pytest.mark.long
def test_a_build_has_fast_bodies_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, told = build(Request(str(PROGRAM))), build(Request(str(PROGRAM), optimize=True))
    assert not plain.metadata.optimized
    assert told.metadata.optimized
    names = [parse(built.path.read_bytes()).custom("name") or b"" for built in (plain, told)]
    assert [content.count(b"\x09main.deep") for content in names] == [1, 2]
    before, after = (content.count(b"\x09main.main") for content in names)
    assert before == 1
    assert after > 2  # and bodies for its loops
    monkeypatch.setenv("GOTHREADS_OPTIMIZE", "1")
    assert build(Request(str(PROGRAM))).path == told.path


@pytest.mark.long
def test_optimize_is_for_packages(capfd: pytest.CaptureFixture[str]) -> None:
    plain, told = build(Request(str(PROGRAM))).path, build(Request(str(PROGRAM), optimize=True)).path
    for source in (plain, plain.read_bytes()):
        with pytest.raises(MisuseError, match=r"is built already, and was not optimized.*gothreads optimize"):
            gothreads.open(source, optimize=True)
    with pytest.raises(MisuseError, match="optimize must be True or False, not 1"):
        gothreads.open(plain, optimize=1)  # type: ignore[arg-type]
    assert find(told, optimize=True).metadata == find(PROGRAM, optimize=True).metadata
    assert main(["inspect", str(told)]) == 0
    assert "\noptimized\n" in capfd.readouterr().out


@pytest.mark.long
def test_a_stripped_module_has_the_same_fast_bodies() -> None:
    whole = parse(build(Request(str(PROGRAM), optimize=True)).path.read_bytes())
    stripped = parse(build(Request(str(PROGRAM), optimize=True, strip=True)).path.read_bytes())
    assert not function_names(stripped)
    assert stripped.bodies == whole.bodies


@pytest.mark.long
def test_optimizer_refuses_what_is_not_a_module() -> None:
    with pytest.raises(BuildError, match=r"^cannot optimize the module: not a WebAssembly module"):
        optimized(GO, b"no module", cache_folder())


@pytest.mark.long
def test_dump_prints_a_function(folder: Path) -> None:
    command: list[str | Path] = [compiled(GO, cache_folder()), "-dump", "main.recovered", stock(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "main.recovered\nb0:\n" in done.stdout
    assert "\tgo.call_indirect 0\n" in done.stdout


@pytest.mark.long
def test_the_optimizers_own_tests_pass() -> None:
    done = subprocess.run([GO, "test", "./..."], cwd=SOURCE, env=native_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


#: What stock Go computes without fast bodies.
MOVED = [2284865, 14991022768, -7345155919533852647, -7193367248412324911, 337411774468616663, 57, 69]


def moved_stacks(module: Path) -> list[int]:
    """What stock Go computes while the host calls it again from inside of a call, on the same goroutine."""
    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    linker.define_wasi()
    store.set_wasi(wasmtime.WasiConfig())

    def again(caller: wasmtime.Caller, n: int) -> int:
        grow = caller["grow"]
        assert isinstance(grow, wasmtime.Func)
        return int(grow(caller, n))
    linker.define_func("env", "again", wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]), again, access_caller=True)
    exports = linker.instantiate(store, wasmtime.Module.from_file(engine, str(module))).exports(store)

    def call(name: str, *values: int) -> int:
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        return int(function(store, *values) or 0)
    call("_initialize")
    return [call("outer", depth) for depth in (0, 1, 5, 24, 60)] + [call("fails", depth) for depth in (0, 9)]


@pytest.mark.long
def test_a_stack_may_move_while_the_host_is_called(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The host's function, which has no fast body, returns normally, and the stack is elsewhere."""
    plain, fast = folder / "moves.wasm", folder / "moves-fast.wasm"  # as `gothreads optimize` is used
    subprocess.run([GO, "build", "-buildmode=c-shared", "-o", plain, "."], cwd=MODULES / "moves",
                   env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm"}, check=True)
    assert main(["optimize", str(plain), "-o", str(fast)]) == 0
    assert re.fullmatch(r".*moves-fast.wasm: \d\.\d MB, instead of \d\.\d\n", capfd.readouterr().err)
    assert moved_stacks(fast) == MOVED
    assert main(["optimize", str(fast), "-o", str(fast)]) == 1
    assert "has 2 tables" in capfd.readouterr().err


#: The symbols of functions with intrinsics; those that Go's compiler inlines elsewhere are in no module.
INTRINSICS = re.findall(r'^\t"([\w.]+)": +{args: ', (SOURCE / "fast" / "intrinsics.go").read_text(), re.MULTILINE)
INLINED = {"internal_bytealg.Count", "internal_bytealg.CountString"}


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--baseline"]], ids=["vectors", "baseline"])
def test_what_std_does_with_memory_is_as_by_bytes(folder: Path, options: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    plain, fast = folder / "memory.wasm", folder / f"memory-fast{len(options)}.wasm"
    subprocess.run([GO, "build", "-buildmode=c-shared", "-o", plain, "."], cwd=MODULES / "memory",
                   env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm"}, check=True)
    assert set(INTRINSICS) - set(function_names(parse(plain.read_bytes()))) == INLINED
    assert main(["optimize", *options, str(plain), "-o", str(fast)]) == 0
    without = wasmtime.Config()
    without.wasm_simd = without.wasm_relaxed_simd = False
    if options:
        wasmtime.Module.validate(wasmtime.Engine(without), fast.read_bytes())
    else:
        with pytest.raises(wasmtime.WasmtimeError, match="SIMD support is not enabled"):
            wasmtime.Module.validate(wasmtime.Engine(without), fast.read_bytes())

    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    linker.define_wasi()
    wasi = wasmtime.WasiConfig()
    wasi.inherit_stdout()
    store.set_wasi(wasi)
    exports = linker.instantiate(store, wasmtime.Module.from_file(engine, str(fast))).exports(store)
    initialize, check, memory = (exports[name] for name in ("_initialize", "check", "memory"))
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(initialize, wasmtime.Func)
    assert isinstance(check, wasmtime.Func)
    initialize(store)
    memory.grow(store, 2000)  # into these Go goes on, not knowing that they are there already
    for length in range(201):
        page = memory.data_len(store)
        memory.grow(store, 1)
        assert check(store, page, length) == 0, capfd.readouterr().out
