"""Modules that pretend to be gothreads' own.

If their functions have other types, they are refused before anything runs, since the host's calls are not checked. If
the types are right, the functions may still not do what Go's do.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import wasmtime

import gothreads
from gothreads.engine import extension
from gothreads.errors import ModuleError
from gothreads.wasm import abi, code
from gothreads.wasm.binary import ExportEntry, FuncType, Import, Kind, MemoryLimits, Module
from gothreads.wasm.leb import uleb
from gothreads.wasm.metadata import Metadata

I32, V128, EXTERNREF = b"\x7f", b"\x7b", b"\x6f"
#: For each result type, an instruction that produces a value of it.
RESULTS = {0x7F: b"\x41\x07", 0x7E: b"\x42\x07", 0x7B: b"\xfd\x0c" + bytes(16), 0x6F: b"\xd0\x6f"}


class Liar:
    """A module with all functions that gothreads calls, each of which returns 7."""

    def __init__(self, folder: Path, model: str) -> None:
        self.file = folder / "liar.wasm"
        self.model = model
        metadata = Metadata("0", "go1.27", model, "c-shared", handlers=False)
        self.module = Module(customs=[("gothreads", metadata.encode())])
        if model == "threaded":
            self.module.imports.append(Import("env", "memory", Kind.MEMORY,
                                              MemoryLimits(1, 65536, shared=True).encode()))
        else:
            self.module.memories.append(MemoryLimits(1))
        for name, kind in {**abi.ENTRIES, **abi.GUEST, **(abi.THREADS if model == "threaded" else {})}.items():
            if name != "_start":
                self.export(name, kind)

    def export(self, name: str, kind: FuncType, body: bytes | None = None) -> None:
        """Replace the export of this name."""
        self.module.exports = [e for e in self.module.exports if e.name != name]
        self.module.exports.append(ExportEntry(name, Kind.FUNC,
                                               len(self.module.imported_functions) + len(self.module.functions)))
        self.module.types.append(kind)
        self.module.functions.append(len(self.module.types) - 1)
        self.module.bodies.append(b"\0" + (b"".join(RESULTS[t] for t in kind.results) if body is None
                                           else body) + b"\x0b")

    def imports(self, module: str, name: str, kind: FuncType) -> None:
        self.module.types.append(kind)
        self.module.imports.insert(0, Import(module, name, Kind.FUNC, uleb(len(self.module.types) - 1)))
        self.module.exports = [ExportEntry(e.name, e.kind, e.index + 1) for e in self.module.exports]

    def open(self) -> gothreads.App:
        self.file.write_bytes(self.module.encode())
        wasmtime.Module.validate(wasmtime.Engine(), self.file.read_bytes())
        return gothreads.open(self.file)


@pytest.fixture(params=["threaded", "single"])
def liar(request: pytest.FixtureRequest, tmp_path: Path) -> Liar:
    return Liar(tmp_path, request.param)


@pytest.mark.parametrize("kind",
                         [FuncType(b"", I32 * 1_000), FuncType(I32 * 1_000, b""), FuncType(EXTERNREF, EXTERNREF),
                          FuncType(V128 * 2, V128)], ids=str)
def test_what_is_called_by_name_must_be_of_its_type(liar: Liar, kind: FuncType) -> None:
    names = ["_initialize", *abi.GUEST, *(abi.THREADS if liar.model == "threaded" else ())]
    exports = list(liar.module.exports)
    for name in names:
        liar.export(name, kind)
        with pytest.raises(ModuleError, match=rf"exports {name} as .*; gothreads calls it as ") as raised:
            liar.open()
        assert str(raised.value).isprintable()
        liar.module.exports = list(exports)


def test_what_is_called_by_name_must_be_a_function(liar: Liar) -> None:
    exports = [e for e in liar.module.exports if e.name != "gothreads_buffer"]
    liar.module.exports = [*exports, ExportEntry("gothreads_buffer", Kind.MEMORY, 0)]
    with pytest.raises(ModuleError, match="exports gothreads_buffer as a memory"):
        liar.open()


@pytest.mark.parametrize("name", sorted(abi.THREADS.keys() - {"gt_attach"}))
def test_what_is_called_by_name_must_be_there_in_a_module_with_threads(tmp_path: Path, name: str) -> None:
    liar = Liar(tmp_path, "threaded")
    liar.module.exports = [e for e in liar.module.exports if e.name != name]
    with pytest.raises(ModuleError, match=f"does not export {name}, which gothreads calls"):
        liar.open()


def test_what_is_called_by_name_may_be_missing_until_it_is_called_in_a_module_without(tmp_path: Path) -> None:
    liar = Liar(tmp_path, "single")
    liar.module.exports = [e for e in liar.module.exports if e.name != "gothreads_payload"]
    with liar.open() as app:
        with pytest.raises(ModuleError, match="does not export gothreads_payload, which gothreads needs"):
            app.request("x")
        assert app.state.value == "running"


@pytest.mark.parametrize(("module", "name", "kind"), [
    ("wasi_snapshot_preview1", "fd_write", FuncType(b"", b"")),
    ("wasi_snapshot_preview1", "fd_write", FuncType(V128 * 4, I32)),
    ("wasi_snapshot_preview1", "fd_close", FuncType(I32, I32 * 500)),
    ("gothreads", "msg_replies", FuncType(EXTERNREF, I32)),
    ("gothreads", "idle_open", FuncType(b"", b"")),
], ids=str)
def test_what_it_imports_must_be_of_its_type(liar: Liar, module: str, name: str, kind: FuncType) -> None:
    liar.imports(module, name, kind)
    with pytest.raises(ModuleError, match=rf"imports {module}\.{name} as .*, which is not its type"):
        liar.open()


@pytest.mark.parametrize(("name", "kind"),
                         [("ncpu", FuncType(b"", b"")), ("thread_spawn", FuncType(V128, I32)),
                          ("poll_wait", FuncType(b"", b""))])
def test_what_a_module_with_threads_imports_must_be_of_its_type(tmp_path: Path, name: str, kind: FuncType) -> None:
    liar = Liar(tmp_path, "threaded")
    liar.imports("gothreads", name, kind)
    with pytest.raises(ModuleError, match=rf"gothreads\.{name}"):
        liar.open()


# gt_read_clock is only called if each store has its own clock: not with C.
@pytest.mark.parametrize("name",
                         ["gt_setup", "gt_init_memory", "_initialize",
                          *(["gt_read_clock"] if extension.compiled is None else [])])
def test_a_trap_before_anything_is_initialised_is_the_modules_end(tmp_path: Path, name: str) -> None:
    liar = Liar(tmp_path, "threaded")
    liar.export(name, {**abi.ENTRIES, **abi.THREADS}[name], code.UNREACHABLE)
    with pytest.raises(gothreads.GuestTrap, match="unreachable"):
        liar.open()


def test_an_entry_that_returns_and_has_not_initialised_anything_is_the_modules_end(tmp_path: Path) -> None:
    with Liar(tmp_path, "threaded").open() as app:
        assert app.exit == 0


@pytest.mark.parametrize("address", [0, 7, 65532, 65536, (1 << 31) - 1, -(1 << 31), -1])
def test_addresses_that_are_not_in_the_memory_are_errors_of_the_call(tmp_path: Path, address: int) -> None:
    liar = Liar(tmp_path, "single")
    for name in ("gothreads_slot_open", "gothreads_buffer", "gothreads_payload"):
        liar.export(name, abi.GUEST[name], code.i32_const(address))
    with liar.open() as app:
        for _ in range(2):
            with contextlib.suppress(gothreads.MemoryAccessError, gothreads.UnknownExport, gothreads.HandlerError,
                                     ModuleError):
                app.request("x", b"payload")
        assert app.state.value == "running"
