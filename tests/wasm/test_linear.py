"""Reading, checking and rewriting a module takes time linear in its size, whatever its size consists of."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import gothreads
from gothreads.bridge.host_imports import HostImports
from gothreads.errors import ModuleError
from gothreads.runtime.module_file import check_module
from gothreads.wasm import code, layout
from gothreads.wasm.binary import DataSegment, ExportEntry, FuncType, Import, Kind, MemoryLimits, Module, Section
from gothreads.wasm.instructions import find
from gothreads.wasm.leb import name, uleb, vector
from gothreads.wasm.parsing import MOST_EXPORTS, MOST_IMPORTS, function_names, parse, with_names
from gothreads.wasm.passes.inline import inline_atomics
from gothreads.wasm.passes.jumps import shorten_jumps
from gothreads.wasm.passes.sharpen import sharpen
from gothreads.wasm.passes.stops import add_stop_checks
from gothreads.wasm.passes.threads import add_threads
from gothreads.wasm.passes.waits import rewrite_waits
from gothreads.wasm.signature import ImportSignature
from tests.conftest import assert_linear

Make = Callable[[int], Module]

EMPTY = code.body(b"")
START = ExportEntry("_start", Kind.FUNC, 0)


def types(n: int) -> list[FuncType]:
    """`n` different types, the empty one first."""
    return [FuncType(b"", b""),
            *(FuncType(bytes(0x7C + (i >> 2 * place) % 4 for place in range(10)), b"") for i in range(n - 1))]


def functions(n: int, body: bytes = EMPTY) -> Module:
    return Module(types=[code.VOID], functions=[0] * n, bodies=[body] * n, exports=[START])


def imports(n: int, kind: bytes = b"\0") -> Module:
    return Module(types=[code.VOID], imports=[Import("env", f"f{i}", Kind.FUNC, kind) for i in range(n)],
                  functions=[0], bodies=[EMPTY],
                  exports=[ExportEntry("_start", Kind.FUNC, n)])


def both(n: int) -> Module:
    """Imports and exports, as in modules for JavaScript, which calls them and which they call."""
    module = imports(n)
    module.exports += [ExportEntry(f"g{i}", Kind.FUNC, n) for i in range(n)]
    return module


def wide(n: int) -> Module:
    """Exports that share one long type."""
    return Module(types=[FuncType(b"\x7f" * 1000, b"")], functions=[0], bodies=[EMPTY],
                  exports=[ExportEntry(f"f{i}", Kind.FUNC, 0) for i in range(n)])


def one_body(content: bytes, locals_: bytes = b"\0") -> Module:
    return Module(types=[code.VOID], functions=[0], bodies=[locals_ + content + code.END], exports=[START])


def elements(n: int) -> Module:
    module = functions(1)
    module.raw[Section.TABLE] = b"\x01\x70\x00" + uleb(n)
    module.raw[Section.ELEMENT] = uleb(n) + b"\x00\x41\x00\x0b\x01\x00" * n
    return module


#: By what they contain many of.
MODULES: dict[str, Make] = {
    "types": lambda n: Module(types=types(n), functions=[0], bodies=[EMPTY], exports=[START]),
    "functions": functions,
    "functions of as many types": lambda n: Module(types=types(n), functions=list(range(n)), bodies=[EMPTY] * n,
                                                   exports=[START]),
    "imports": imports,
    "exports": lambda n: Module(types=[code.VOID], functions=[0], bodies=[EMPTY],
                                exports=[START, *(ExportEntry(f"f{i}", Kind.FUNC, 0) for i in range(n))]),
    "imports and exports": both,
    "globals": lambda n: Module(types=[code.VOID], functions=[0], bodies=[EMPTY], globals=[b"\x7f\0\x41\0\x0b"] * n,
                                exports=[START]),
    "data segments": lambda n: Module(types=[code.VOID], functions=[0], bodies=[EMPTY], memories=[MemoryLimits(1)],
                                        data=[DataSegment(0, b"x")] * n, exports=[START]),
    "element segments": elements,
    "custom sections": lambda n: Module(types=[code.VOID], functions=[0], bodies=[EMPTY], customs=[("x", b"y")] * n,
                                        exports=[START]),
    "locals": lambda n: one_body(b"", uleb(n) + b"\x01\x7f" * n),
    "labels of a table": lambda n: one_body(b"\x41\0\x0e" + uleb(n) + b"\0" * n + b"\0"),
    "nested blocks": lambda n: one_body(b"\x02\x40" * n + b"\x0b" * n),
    "instructions": lambda n: one_body(b"\x01" * n),
}


@pytest.mark.long
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_module_is_parsed_inspected_and_written_in_time_in_proportion(make: Make) -> None:
    assert_linear(lambda n: make(n).encode(), lambda content: check_module("app.wasm", content))
    assert_linear(lambda n: make(n).encode(), lambda content: parse(content).encode())


@pytest.mark.long
def test_what_go_has_linked_is_rewritten_in_time_in_proportion(module: Module) -> None:
    """The output of Go's linker, without its code, and with `n` more of everything."""
    first, bare = len(module.imported_functions) + len(module.functions), [EMPTY] * len(module.functions)

    def linked(n: int) -> Module:
        jumps = b"\x02\x40\x03\x40\x02\x40\x20\0\x0e\0\0\x0b\x0b\x0b"
        return replace(module, types=[*module.types, *types(n)],
                       functions=[*module.functions, *range(len(module.types), len(module.types) + n)],
                       bodies=[*bare, *[code.body(jumps)] * n],
                       exports=[*module.exports, *(ExportEntry(f"e{i}", Kind.FUNC, first + i) for i in range(n))],
                       data=[DataSegment(layout.GO_DATA + 1024 * i, b"x") for i in range(n)],
                       customs=with_names(module.customs, [(first + i, f"main.f{i}") for i in range(n)]))

    assert_linear(linked, lambda made: sharpen(shorten_jumps(inline_atomics(add_threads(made))), 1), begin=2000)


def test_names_are_read_in_time_in_proportion() -> None:
    def named(n: int) -> Module:
        names = uleb(n) + b"".join(uleb(i) + name(f"f{i}") for i in range(n))
        return Module(customs=[("name", b"\x01" + vector(names))])
    assert_linear(named, function_names)
    assert_linear(named, lambda module: with_names(module.customs, [(1 << 20, "x")]))


def test_waits_are_noted_in_time_in_proportion() -> None:
    """All waits differ, and so do all types: each adds a function."""
    def waiting(n: int) -> Module:
        wait = b"".join(b"\x41\0\x41\0\x42\0\xfe\x01\x02" + uleb(4 * i) + b"\x1a" for i in range(n))
        return Module(types=types(n),
                      imports=[Import("env", "memory", Kind.MEMORY, MemoryLimits(1, 1, shared=True).encode())],
                      functions=[0],
                      bodies=[code.body(wait)], exports=[START])
    assert_linear(waiting, rewrite_waits)


#: What a function may consist of, `n` times.
CODE: dict[str, Callable[[int], bytes]] = {
    "loops": lambda n: b"\x03\x40\x0b" * n,
    "nested loops": lambda n: b"\x03\x40" * n + b"\x0b" * n,
    "instructions": lambda n: b"\x01" * n,
    "numbers": lambda n: b"\x42" + b"\xff" * 8 + b"\x7f\x1a" + b"\x41\x03\x1a" * n,
    "vectors": lambda n: (b"\xfd\x0c" + b"\x03" * 16 + b"\x1a") * n,
    "labels of a table": lambda n: b"\x41\0\x0e" + uleb(n) + b"\0" * n + b"\0",
}


@pytest.mark.parametrize("content", CODE.values(), ids=CODE)
def test_stop_checks_are_put_in_in_time_in_proportion(content: Callable[[int], bytes]) -> None:
    loop = b"\x03\x40\x0b"  # so that all of it is looked at
    assert_linear(lambda n: one_body(content(n) + loop), add_stop_checks)
    assert_linear(lambda n: functions(n, b"\0" + loop + code.END), add_stop_checks)


def test_the_largest_function_takes_little_memory_to_look_at() -> None:
    largest = 7_654_321  # in bytes; wasmtime refuses larger ones
    body = b"\0" + b"\x01" * largest + b"\x03\x40\x0b\x0b"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [found.offset for found in find(body, b"\x03")] == [largest + 1]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_functions_of_pythons_are_fitted_in_time_in_proportion() -> None:
    declared = [ImportSignature(f"f{i}", f"func f{i}()", f"f{i}", "main", "", (), None, "main.go:1", "env")
                for i in range(1 << 16)]

    def fit(module: Module) -> None:
        given = {("env", i.name): fit_this for i in module.imports}
        HostImports("app", module, declared[:len(module.imports)], given, lambda *_: False)

    def refuse(module: Module) -> None:
        with pytest.raises(ModuleError) as raised:
            HostImports("app", module, declared[:len(module.imports)], {}, lambda *_: False)
        assert len(str(raised.value)) < 20_000
    assert_linear(imports, fit)
    assert_linear(imports, refuse)


def fit_this() -> None:
    pass


@pytest.mark.long
@pytest.mark.parametrize(("what", "begin"), [("exports", 6000), ("imports", 2000)])
def test_a_module_is_opened_in_time_in_proportion_to_its_imports_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, begin: int
) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "app.wasm"

    def write(n: int) -> dict[str, Callable[[], None]]:
        module = MODULES[what](n)
        module.exports = [replace(export, name=export.name.lstrip("_")) for export in module.exports]  # no program
        path.write_bytes(module.encode())
        return {imported.name: fit_this for imported in module.imports}

    def open_and_close(host: dict[str, Callable[[], None]]) -> None:
        gothreads.open(path, host={"env": host}).close()
    assert_linear(write, open_and_close, begin, most=begin)


@pytest.mark.parametrize(("module", "said"), [
    (functions(1).encode()[:8] + b"\x01\x85\x89\x7a" + uleb(2_000_000) + bytes(2_000_002),
     "type section has 2,000,000 entries; gothreads takes 1,000,000"),
    (imports(MOST_IMPORTS + 1).encode(), "import section has 100,001 entries; gothreads takes 100,000 at the most"),
    (wide(1100).encode(),
     "imports and exports have 1,100,000 parameters and results; gothreads takes 1,000,000 at the most"),
    (MODULES["exports"](MOST_EXPORTS).encode(),
     "export section has 100,001 entries; gothreads takes 100,000 at the most"),
])
def test_more_than_anybody_needs_is_refused(module: bytes, said: str) -> None:
    with pytest.raises(ModuleError, match=said):
        check_module("app.wasm", module)
