"""The rewrite of a module that Go has linked with the overlay: what changes, and that nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import wasmtime

from gothreads.engine.settings import new_engine
from gothreads.errors import ModuleError
from gothreads.shared_memory import SharedMemory
from gothreads.wasm import code, leb
from gothreads.wasm.atomic_operations import BODIES, PACKAGE
from gothreads.wasm.binary import (
    MAX_PAGES,
    PAGE,
    DataSegment,
    ExportEntry,
    FuncType,
    Import,
    Kind,
    MemoryLimits,
    Module,
    Section,
)
from gothreads.wasm.instructions import CALL_INDIRECT, instructions
from gothreads.wasm.leb import Reader, uleb, vector
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.threads import (
    FIRST_FUNCTION_PC,
    INTERNAL,
    LOOKED_UP_BY_CALLERS,
    MOST_PARAMETERS,
    add_threads,
)

ENTRIES = {"gt_init_memory", "gt_setup", "gt_thread_start", "gt_attach", "gt_detach", "gt_read_clock"}
STUBS = {"runtime.futexWait", "runtime.futexWake", "runtime.clockOffset", "runtime.publicationBarrier",
         "runtime.exitThread"}
#: The name depends on the Go version.
SPINS = {"runtime.procyield", "runtime.procyieldAsm"}
#: The end of an indirect call, preceded by what the rewrite inserts.
LOWER = code.i32_const(FIRST_FUNCTION_PC) + code.I32_SUB + b"\x11"


@pytest.fixture(scope="session")
def rewritten(linked: bytes) -> Module:
    return add_threads(parse(linked))


def functions(module: Module) -> dict[str, ExportEntry]:
    return {e.name: e for e in module.exports if e.kind is Kind.FUNC}


def names(module: Module) -> list[tuple[int, str]]:
    """The function names, as listed in the name section."""
    content = module.custom("name")
    assert content is not None
    reader = Reader(content, "name")
    found = []
    while reader.at < reader.end:
        kind, part = reader.byte(), Reader(reader.take(reader.u32()), "name")
        if kind == 1:
            found = part.vector(lambda r: (r.u32(), r.name()))
            assert part.at == part.end
    return found


def test_the_rewritten_module_is_valid_with_threads_and_without_them_is_not(rewritten: Module) -> None:
    wasmtime.Module.validate(new_engine(1 << 20), rewritten.encode())
    config = wasmtime.Config()
    config.wasm_threads = False
    with pytest.raises(wasmtime.WasmtimeError, match="threads"):
        wasmtime.Module.validate(wasmtime.Engine(config), rewritten.encode())


def test_the_input_is_left_as_it_was(linked: bytes, module: Module) -> None:
    add_threads(module)
    assert module == parse(linked)


def test_memory_is_imported_and_shared_and_still_exported(module: Module, rewritten: Module) -> None:
    assert rewritten.memories == []
    shared = MemoryLimits(module.memories[0].minimum, MAX_PAGES, shared=True)
    assert rewritten.imports == [*module.imports, Import("env", "memory", Kind.MEMORY, shared.encode())]
    assert rewritten.memory == shared
    assert ExportEntry("memory", Kind.MEMORY, 0) in rewritten.exports


def test_user_exports_keep_their_names_and_types_and_internal_ones_are_hidden(
    module: Module, rewritten: Module
) -> None:
    before, after = functions(module), functions(rewritten)
    assert before.keys() >= INTERNAL | {"add", "_start"}
    assert after.keys() == before.keys() - INTERNAL | ENTRIES
    assert len(rewritten.exports) == len({e.name for e in rewritten.exports})
    for name in after.keys() - ENTRIES:
        assert rewritten.function_types()[after[name].index] == module.function_types()[before[name].index], name
    assert after["_start"] == before["_start"]
    assert after["add"].index != before["add"].index, "add enters and leaves Go"


def test_data_are_few_and_are_copied_in_where_active_segments_would_be(module: Module, rewritten: Module) -> None:
    assert len(module.data) > 1000
    assert len(rewritten.data) < 20
    assert all(segment.offset is None for segment in rewritten.data)
    assert rewritten.data_count
    pages = module.memories[0].minimum

    store = wasmtime.Store()
    active = Module(memories=[MemoryLimits(pages)], exports=[ExportEntry("memory", Kind.MEMORY, 0)], data=module.data)
    memory = wasmtime.Instance(store, wasmtime.Module(store.engine, active.encode()), []).exports(store)["memory"]
    assert isinstance(memory, wasmtime.Memory)
    expected = bytes(memory.read(store, 0, pages * PAGE))

    index = functions(rewritten)["gt_init_memory"].index - len(rewritten.imported_functions)
    assert rewritten.memory is not None
    passive = Module(types=[code.VOID], imports=[Import("env", "memory", Kind.MEMORY, rewritten.memory.encode())],
                     functions=[0],
                     exports=[ExportEntry("gt_init_memory", Kind.FUNC, 0)], bodies=[rewritten.bodies[index]],
                     data=rewritten.data, data_count=True)
    engine = new_engine(1 << 20)
    shared, store = SharedMemory(engine, pages, MAX_PAGES), wasmtime.Store(engine)
    store.set_epoch_deadline(1)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, passive.encode()), [shared.handle])
    assert shared.read(0, shared.size) == bytes(shared.size), "instantiating copies nothing"
    fill = instance.exports(store)["gt_init_memory"]
    assert isinstance(fill, wasmtime.Func)
    fill(store)
    assert shared.read(0, shared.size) == expected


def test_functions_keep_their_indices_and_only_known_ones_change(module: Module, rewritten: Module) -> None:
    assert rewritten.imported_functions == module.imported_functions
    assert rewritten.types[:len(module.types)] == module.types
    assert rewritten.functions[:len(module.functions)] == module.functions
    assert rewritten.globals[:len(module.globals)] == module.globals
    assert {**rewritten.raw,
            **{section: module.raw[section] for section in (Section.TABLE, Section.ELEMENT)}} == module.raw
    imported = len(module.imported_functions)
    by_index = {index: name for name, index in function_names(module).items()}
    changed = {by_index[imported + i] for i, body in enumerate(module.bodies)
               if rewritten.bodies[i].replace(LOWER, b"\x11") != body}
    assert STUBS | {"syscall.fd_write", f"{PACKAGE}Cas"} <= changed
    assert len(changed & SPINS) == 1
    others = changed - STUBS - SPINS - {PACKAGE + name for name in BODIES}
    assert {name.partition(".")[0] for name in others} <= {"syscall", "internal_syscall_unix", "internal_poll", "os",
                                                           "net"}


@pytest.mark.long
def test_the_table_begins_with_the_first_function_and_what_is_looked_up_is_as_much_lower(
    module: Module, rewritten: Module
) -> None:
    def table(of: Module) -> int:
        return Reader(of.raw[Section.TABLE][3:], "table").u32()
    assert table(rewritten) == table(module) - FIRST_FUNCTION_PC < len(module.functions) + 2
    sites = sum(instruction.opcode == CALL_INDIRECT[0] for body in module.bodies for instruction in instructions(body))
    assert sites > 100
    assert sum(body.count(LOWER) for body in rewritten.bodies) == sites
    begin = rewritten.raw[Section.ELEMENT].index(b"\0\x41\0\x0b")
    assert rewritten.raw[Section.ELEMENT][begin + 4:] == module.raw[Section.ELEMENT][len(b"\x01\0\x41\x80\x20\x0b"):]
    names = function_names(module)
    assert all(name in names for name in LOOKED_UP_BY_CALLERS), "of the Go that these tests run with"


@pytest.mark.parametrize(("section", "content"), [
    (Section.TABLE, None), (Section.TABLE, b"\x01\x70\x01\x80\x20\x80\x20"), (Section.TABLE, b"\x01\x70\0\x10"),
    (Section.ELEMENT, None), (Section.ELEMENT, b"\x01\0\x41\x80\x10\x0b\0"),
    (Section.ELEMENT, b"\x02\0\x41\x80\x20\x0b\0\0\x41\0\x0b\0"),
])
def test_a_table_that_gos_linker_does_not_write_is_refused(module: Module, section: Section,
                                                           content: bytes | None) -> None:
    other = {known: raw for known, raw in module.raw.items()
             if known is not section} | ({} if content is None else {section: content})
    with pytest.raises(ModuleError, match="the module's table of functions is not as Go's linker makes it"):
        add_threads(replace(module, raw=other))


def test_the_name_section_has_the_added_names_in_order(module: Module, rewritten: Module) -> None:
    before, after = names(module), names(rewritten)
    assert after[:len(before)] == before
    added = after[len(before):]
    first = len(rewritten.imported_functions) + len(module.bodies)
    assert [index for index, _ in added] == list(range(first, first + len(added)))
    assert len(added) == len(rewritten.bodies) - len(module.bodies)
    assert {name for _, name in added} >= ENTRIES | {"syscall.fd_write.call", "add"}
    for name in ENTRIES:
        assert functions(rewritten)[name].index == function_names(rewritten)[name]


def test_what_the_program_imports_gives_up_its_p_whatever_its_types(linked_hostcalls: bytes) -> None:
    module = parse(linked_hostcalls)
    own = {f"{i.module}.{i.name}" for i in module.imported_functions if i.module in ("env", "elsewhere")}
    assert len(own) == 18
    assert "env.unused" not in own, "Go's linker drops what nothing calls"
    added = {name for _, name in names(add_threads(module))} - {name for _, name in names(module)}
    calls = {name for name in added if name.endswith(".call") and name.startswith(("main.", "hostcalls_other."))}
    assert len(calls) == len(own) + 1
    assert {"main.hostAll.call", "main.hostWide.call", "main.hostTick.call", "hostcalls_other.Twice.call"} <= calls
    assert "main.fdSync.call" in calls, "WASI's calls that may block do too, whoever imports them"


def test_the_runtimes_own_calls_keep_their_p(rewritten: Module) -> None:
    assert not [name for _, name in names(rewritten) if name.startswith("runtime.") and name.endswith(".call")]


def test_an_import_whose_go_function_is_not_as_known_is_refused_by_name(linked_hostcalls: bytes) -> None:
    module = parse(linked_hostcalls)
    index = function_names(module)["main.hostLog"] - len(module.imported_functions)
    module.bodies[index] = module.bodies[index][:-1] + b"\x01\x0b"  # a nop before the end
    with pytest.raises(ModuleError,
                       match=r"the Go function that imports env\.log is not as gothreads knows such functions"):
        add_threads(module)


def test_an_import_with_more_parameters_than_the_collector_looks_through_keeps_its_p(linked_hostcalls: bytes) -> None:
    module = parse(linked_hostcalls)
    place = next(n for n, i in enumerate(module.imports) if i.name == "wide")
    module.types.append(FuncType(code.I32 * (MOST_PARAMETERS + 1), code.I64))
    module.imports[place] = replace(module.imports[place], description=uleb(len(module.types) - 1))
    assert "main.hostWide.call" not in {name for _, name in names(add_threads(module))}


def test_a_module_without_the_overlay_is_refused_with_what_to_do(calls_single: Path) -> None:
    with pytest.raises(ModuleError, match=r"without gothreads' changes.*gothreads build"):
        add_threads(parse(calls_single.read_bytes()))


def test_a_module_without_names_is_refused_with_what_to_do(module: Module) -> None:
    with pytest.raises(ModuleError, match=r"no function names.*without -s.*--strip"):
        add_threads(replace(module, customs=[c for c in module.customs if c[0] != "name"]))


def test_a_module_that_was_rewritten_already_is_refused(rewritten: Module) -> None:
    with pytest.raises(ModuleError):
        add_threads(rewritten)


@pytest.mark.parametrize("old", ["runtime.futexWait", "runtime.mstart", "wasm_pc_f_loop", f"{PACKAGE}Cas64"])
def test_a_function_that_the_rewrite_does_not_find_or_know_is_named(module: Module, old: str) -> None:
    new = old[:-1] + "~"
    customs = [(title, body.replace(bytes([len(old)]) + old.encode(), bytes([len(old)]) + new.encode()))
               for title, body in module.customs]
    with pytest.raises(ModuleError, match=r"Cas6~ is not known" if "Cas" in old else f"no function {old}.*Go version"):
        add_threads(replace(module, customs=customs))


@pytest.mark.parametrize(("data", "said"), [
    ([DataSegment(20000, b"abc"), DataSegment(20002, b"x")], "overlap"),
    ([DataSegment(100, b"abc")], "not where Go's linker puts them"),
    ([DataSegment(None, b"abc")], "not where Go's linker puts them"),
])
def test_data_that_gos_linker_does_not_write_are_refused(module: Module, data: list[DataSegment], said: str) -> None:
    with pytest.raises(ModuleError, match=said):
        add_threads(replace(module, data=data))


def test_data_near_each_other_are_merged_and_far_ones_are_not(module: Module) -> None:
    data = [DataSegment(1 << 31, b"high"), DataSegment(20000, b"a"), DataSegment(20010, b"b"), DataSegment(90000, b"c")]
    assert [segment.content
            for segment in add_threads(replace(module, data=data)).data] == [b"a" + bytes(9) + b"b", b"c", b"high"]


@pytest.mark.parametrize("name", sorted(INTERNAL - {"gt_attach", "gt_import_enter"}))
def test_a_module_without_an_export_of_the_overlays_is_refused(module: Module, name: str) -> None:
    with pytest.raises(ModuleError, match=f"no export {name}|Build it with: gothreads build"):
        add_threads(replace(module, exports=[e for e in module.exports if e.name != name]))


def test_a_module_that_lacks_a_host_call_of_the_runtimes_is_refused(module: Module) -> None:
    renamed = [replace(i, name="other") if i.name == "clock_time_get" else i for i in module.imports]
    with pytest.raises(ModuleError,
                       match=r"does not import \w+\.clock_time_get|is not as gothreads knows such functions"):
        add_threads(replace(module, imports=renamed))


@pytest.mark.parametrize("index", [0, 1 << 20])
def test_a_name_of_a_function_that_is_not_there_is_refused(module: Module, index: int) -> None:
    content = b"\1" + vector(uleb(1) + uleb(index) + leb.name("runtime.futexWait"))
    with pytest.raises(ModuleError, match="the module has no function"):
        add_threads(replace(module, customs=[("name", content)]))
