"""Modules with their machine code: gothreads compile, trust=, and files that must not be run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import wasmtime

import gothreads
from gothreads.engine import precompiled
from gothreads.engine.precompiled import MAGIC, Precompiled, digest_of, pack
from gothreads.engine.settings import precompile
from tests.support.command_line import command
from tests.support.modules import built

WASM = bytes(wasmtime.wat2wasm("""(module (memory (export "memory") 1)
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "fail") unreachable))"""))
STACK = gothreads.Limits().stack


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with machine code."""
    path = tmp_path / "app.cwasm"
    path.write_bytes(pack(WASM, precompile(WASM, STACK, threads=False)[1]))
    return path


def test_a_trusted_file_is_opened_without_compiling(file: Path) -> None:
    for trust in (True, digest_of(file.read_bytes()), digest_of(file.read_bytes()).upper()):
        with gothreads.open(file, trust=trust) as app:
            assert app.exports.add(2, 3) == 5
            assert app.compile_seconds is None
            with pytest.raises(gothreads.GuestTrap, match="unreachable"):
                app.exports.fail()


def test_the_stack_may_be_another(file: Path) -> None:
    with gothreads.open(file, trust=True, limits=gothreads.Limits(stack=2 * STACK)) as app:
        assert app.exports.add(2, 3) == 5


def test_a_pool_opens_it_too(file: Path) -> None:
    with gothreads.open(file, trust=True, model="pool", instances=2) as app:
        assert app.exports.add(2, 3) == 5


@pytest.mark.parametrize("trust", [False, ""])
def test_without_trust_it_is_refused_with_its_digest(file: Path, trust: bool | str) -> None:
    with pytest.raises(gothreads.ModuleError,
                       match=rf'app\.cwasm: it holds machine code.*trust="{digest_of(file.read_bytes())}"'):
        gothreads.open(file, trust=trust)


def test_another_digest_is_refused(file: Path) -> None:
    digest = digest_of(file.read_bytes())
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(gothreads.ModuleError,
                       match=f"its digest is {digest_of(file.read_bytes())}, and {digest} is trusted"):
        gothreads.open(file, trust=digest)


def test_trust_is_checked(file: Path) -> None:
    with pytest.raises(gothreads.MisuseError, match="trust must be True, False or a file's digest, not 1"):
        gothreads.open(file, trust=1)  # type: ignore[arg-type]


def test_trust_does_not_matter_for_a_module_without_machine_code(tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(WASM)
    with gothreads.open(tmp_path / "app.wasm", trust="0" * 64) as app:
        assert app.exports.add(2, 3) == 5


@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.6, 0.9, 1.0])
def test_a_damaged_file_is_refused(file: Path, part: float) -> None:
    """Never run: wasmtime would not notice."""
    content = bytearray(file.read_bytes())
    content[len(MAGIC) + int((len(content) - len(MAGIC) - 1) * part)] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(gothreads.ModuleError, match=r"app\.cwasm: it is damaged, or not complete"):
        gothreads.open(file, trust=True)


@pytest.mark.parametrize("length", [len(MAGIC), len(MAGIC) + 10, 300, -1])
def test_a_file_that_is_cut_off_is_refused(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(gothreads.ModuleError, match="damaged"):
        gothreads.open(file, trust=True)


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b"7", b'{"settings": 1}', b"\xff", b"[" * 100_000])
def test_a_strange_header_is_refused(file: Path, header: bytes) -> None:
    file.write_bytes(MAGIC + header + b"\n" + WASM)
    with pytest.raises(gothreads.ModuleError, match="damaged"):
        gothreads.open(file, trust=True)


def test_another_wasmtime_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompiled, "version", lambda _name: "49.0.0")
    old = pack(WASM, precompile(WASM, STACK, threads=False)[1])
    monkeypatch.undo()
    file.write_bytes(old)
    with pytest.raises(gothreads.ModuleError,
                       match=r"compiled for the wasmtime 49\.0\.0, and this is \d+.*gothreads compile"):
        gothreads.open(file, trust=True)


def test_another_machine_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompiled, "_machine", lambda: "Linux riscv64")
    with pytest.raises(gothreads.ModuleError, match="compiled for the machine Linux .*, and this is Linux riscv64"):
        gothreads.open(file, trust=True)


def test_other_settings_are_refused(file: Path) -> None:
    code = precompile(WASM, STACK, threads=False)[1].code
    file.write_bytes(pack(WASM, Precompiled("settings of another version", code)))
    with pytest.raises(gothreads.ModuleError, match="another version of gothreads"):
        gothreads.open(file, trust=True)


def test_machine_code_that_wasmtime_refuses(file: Path) -> None:
    """As for another processor: here, it was compiled for an engine without interruptions."""
    settings = precompile(WASM, STACK, threads=False)[1].settings
    engine = wasmtime.Engine()
    file.write_bytes(pack(WASM, Precompiled(settings, bytes(wasmtime.Module(engine, WASM).serialize()))))
    with pytest.raises(gothreads.ModuleError,
                       match="machine code in the file does not fit here: .*Compile it again here"):
        gothreads.open(file, trust=True)


def test_an_app_with_machine_code_travels(file: Path) -> None:
    with gothreads.open(file, trust=True) as app, pickle.loads(pickle.dumps(app)) as other:
        assert other.exports.add(2, 3) == 5
        assert other.compile_seconds is None


# The command

def test_the_command_fills_the_cache(tmp_path: Path) -> None:
    module = tmp_path / "app.wasm"
    module.write_bytes(WASM)
    about = json.loads(command("compile", module, "--json")[1])
    assert (about["cached"], "file" in about) == (False, False)
    with gothreads.open(module) as app:
        assert app.compile_seconds is None
    code, out, err = command("compile", module)
    assert (code, out) == (0, "")
    assert err == f"gothreads: {module}: {about['machine_code'] / 1e6:.1f} MB of machine code, already compiled\n"


@pytest.mark.long
def test_a_program_on_threads_is_compiled_into_a_file(tmp_path: Path) -> None:
    output = tmp_path / "calls.cwasm"
    code, out, _ = command("compile", built("calls"), "-o", output, "--json")
    digest = json.loads(out)["digest"]
    assert (code, digest) == (0, digest_of(output.read_bytes()))
    assert command("call", "--trust", digest, output, "add", 2, 3)[:2] == (0, "5\n")
    assert command("call", "--trust", "any", output, "add", 2, 3)[:2] == (0, "5\n")
    code, _, err = command("call", output, "add", 2, 3)
    assert code == 1
    assert "--trust" in err
    assert command("call", "--trust", "0" * 64, output, "add", 2, 3)[0] == 1
    code, out, _ = command("inspect", output)  # runs nothing of it
    assert (code, out.startswith(f"{output}: "), "func add(a, b int32) int32" in out) == (0, True, True)
    with gothreads.open(output, trust=digest, args=("a",)) as app:
        assert app.compile_seconds is None
        assert app.exports.add(2, 3) == 5


def test_the_command_refuses_what_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\xff")
    code, out, err = command("compile", tmp_path / "bad.wasm", "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert "bad.wasm" in err
    assert not (tmp_path / "out").exists()
