"""For a module that was built for another host, the error says for which, and how to build it for this one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import gothreads
from gothreads.build.toolchain import find_go
from gothreads.errors import ModuleError
from gothreads.wasm.binary import MAGIC, ExportEntry, Import, Kind, Module
from gothreads.wasm.code import VOID, body
from tests.support.command_line import command


def importing(*names: tuple[str, str], custom: str = "x") -> bytes:
    imports = [Import(module, name, Kind.FUNC, b"\0") for module, name in names]
    return Module(types=[VOID], imports=imports, functions=[0], bodies=[body(b"")], customs=[(custom, b"")],
                  exports=[ExportEntry("f", Kind.FUNC, len(names))]).encode()


TABLE = Module(types=[VOID],
               imports=[Import("env", "table", Kind.TABLE, b"\x70\0\1"), Import("env", "invoke_vi", Kind.FUNC, b"\0")],
               functions=[0], bodies=[body(b"")], exports=[ExportEntry("f", Kind.FUNC, 1)]).encode()


@pytest.mark.parametrize(("content", "said"), [
    (importing(("gojs", "syscall/js.valueGet"), ("gojs", "runtime.ticks")), "JavaScript, by TinyGo.*-target=wasip1"),
    (importing(("env", "syscall/js.valueGet"), ("wasi_snapshot_preview1", "fd_write")), "JavaScript, by TinyGo"),
    (importing(("go", "runtime.wasmWrite"), ("go", "runtime.wasmExit")), "JavaScript, by Go.*gothreads build"),
    (importing(("wbg", "__wbg_log_1234")), "JavaScript, by wasm-bindgen.*wasm32-wasip1"),
    (importing(("./app_bg.js", "__wbindgen_throw")), "wasm-bindgen"),
    (importing(("env", "emscripten_resize_heap")), "JavaScript, by Emscripten.*-sSTANDALONE_WASM"),
    (importing(("a", "a"), ("a", "b")), "Emscripten"),
    (TABLE, "Emscripten"),
    (importing(("wasi:cli/environment@0.2.0", "get-arguments")),
     "WASI preview 2: it is the core of a component.*wasip1"),
    (importing(("wasi_unstable", "fd_write")), "wasi_unstable"),
    (importing(("__wbindgen_placeholder__", "__wbindgen_describe")), "wasm-bindgen"),
    (importing(("env", "f"), custom="linking"), "a linker: it is an object file"),
    (importing(("env", "f"), custom="dylink.0"), "a shared library"),
])
def test_who_a_module_is_for_is_said_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(content)
    with pytest.raises(ModuleError, match=f"the module was built for .*{said}") as raised:
        gothreads.open(path)
    assert "\n" not in str(raised.value)


def test_what_a_program_provides_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(importing(("env", "emscripten_notify_memory_growth")))
    with gothreads.open(path, host={"env": {"emscripten_notify_memory_growth": lambda: None}}) as app:
        assert app.exports.f() is None
    path.write_bytes(importing(("env", "unknown")))
    with pytest.raises(ModuleError, match=r"env\.unknown is missing"):
        gothreads.open(path)


def test_a_component_says_what_it_is_and_how_to_build_a_module(tmp_path: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(MAGIC + b"\x0d\0\1\0" + bytes(8))
    with pytest.raises(
        ModuleError, match="but a WebAssembly component, for WASI preview 2.*wasm32-wasip1.*gothreads build"
    ) as raised:
        gothreads.open(path)
    assert "\n" not in str(raised.value)


@pytest.mark.long
def test_go_for_javascript_is_told_from_go_for_wasi(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { println(1) }\n")
    path = tmp_path / "app.wasm"
    subprocess.run([find_go().go, "build", "-o", path, "main.go"], cwd=tmp_path, check=True,
                   env=os.environ | {"GOOS": "js", "GOARCH": "wasm", "GOTOOLCHAIN": "local"})
    for argv in (["run", path], ["call", path, "run"], ["serve", "--port", "0", path]):
        code, _, said = command(*argv)
        assert code == 1
        assert "the module was built for JavaScript, by Go (GOOS=js). Build it for WASI: gothreads build PACKAGE -o FILE\n" in said
    code, said, _ = command("inspect", path)
    assert code == 0
    assert "\nbuilt for JavaScript, by Go (GOOS=js)" in said
    assert json.loads(command("inspect", path, "--json")[1])["made_for"].startswith("JavaScript, by Go")
