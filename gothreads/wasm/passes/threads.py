"""The rewrite: many instances of a module, which Go linked with gothreads' overlay, can run at once over one memory.

Input and output are whole modules. The steps, in order:

    memory       imported and shared; still exported for WASI
    data         passive segments, copied in once by gt_init_memory: later instances must not copy them again
    table        without the slots that Go's linker leaves empty: each instance has its own table
    globals      two more registers per instance: clock (an offset), fence (a flag)
    stubs        bodies for what Go cannot express: atomics, futexes, thread exit
    imports      host calls that may block release their P meanwhile
    exports      //go:wasmexport functions enter and leave Go as cgo callbacks do
    threads      entry points for the host: gt_setup, gt_thread_start, gt_attach, gt_detach, gt_read_clock

Functions are only added at the end, so the indices that Go's linker assigned stay valid (its PCs contain them).
"""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.errors import ModuleError
from gothreads.text import shown
from gothreads.wasm import atomic_operations, code, layout
from gothreads.wasm.binary import (
    MAX_PAGES,
    DataSegment,
    ExportEntry,
    FuncType,
    Import,
    Kind,
    MemoryLimits,
    Module,
    Section,
    TypeIndices,
)
from gothreads.wasm.host_calls import BLOCKING_CALLS, HOST, WASI
from gothreads.wasm.instructions import CALL_INDIRECT, find, replaced
from gothreads.wasm.leb import Reader, number, signed, uleb
from gothreads.wasm.parsing import function_names, with_names

#: Exports of the runtime part of the overlay: called by the functions added here, and hidden from the host.
INTERNAL = frozenset({"gt_take", "gt_attach", "gt_enter", "gt_leave", "gt_g0", "gt_detach", "gt_import_enter"})
#: How Go's linker numbers functions in PCs (cmd/link/internal/wasm: funcValueOffset).
FIRST_FUNCTION_PC = 0x1000
#: What Go's linker writes: one funcref table without a maximum, before its size; and the flags of an active segment
#: of that table, before its constant offset.
_TABLE, _SEGMENT = b"\x01\x70\x00", b"\x00"
#: The functions that a caller's instance looks up in its table before it first waits in the module (read from the
#: tables of 60 instances). For each function in a table wasmtime keeps a record per instance, filled in at the first
#: look-up. The records lie in the order in which the module names the functions, so naming these first puts theirs
#: into one page of memory instead of four. Names that a version of Go lacks are ignored.
LOOKED_UP_BY_CALLERS = (
    "runtime.park_m", "runtime.parkunlock_c", "runtime.mallocgcSmallScanNoHeaderSC1", "runtime.malg.func1",
    "runtime.newextram",
    "runtime.exitsyscall.func3", "sync.__Mutex_.Unlock", "runtime.__mheap_.alloc.func1", "runtime.gtEnter",
    "runtime.exitsyscallNoP",
    "runtime.exitsyscall", "runtime.persistentalloc.func1")
#: Gaps between data segments below this size, in bytes, are filled: fewer segments, little waste.
DATA_GAP = 256

#: A call with more parameters keeps its P: the collector scans only so many words for their pointers
#: (build/runtime_edits.py).
MOST_PARAMETERS = 64

#: procyield(cycles): takes about `cycles` times as long as a processor's own pause instruction (some 100 cycles), with
#: loads that no compiler removes. It reuses local 0, the point to resume at, which is no longer needed.
SPIN = code.body(
    code.argument(8, 4) + code.i32_const(5) + code.I32_SHL + code.i32_const(1) + code.I32_OR + code.local_set(0)
    + code.LOOP + code.global_get(code.SP) + code.atomic(0x10, 4) + code.DROP
    + code.local_get(0) + code.i32_const(1) + code.I32_SUB + code.local_tee(0) + code.br_if(0) + code.END + code.RETURN)

_LEB = rb"[\x80-\xff]*[\0-\x7f]"
#: The wrapper that Go emits for a //go:wasmimport (cmd/internal/obj/wasm: genWasmImportWrapper), the same in 1.25 to
#: 1.27: it loads its arguments from the stack, calls, stores the result and pops the return address.
_IMPORT_WRAPPER = re.compile(
    rb"(?:\x01\x01\x7f|\x02\x01\x7f\x01[\x7c-\x7e])"                       # locals: SP, and the result
    rb"\x23\0\x21\x01"                                                     # SP into its local
    rb"(?:\x20\x01(?:\x28\x02|\x29\x03|\x2a\x02|\x2b\x03|\x2d\0)" + _LEB + rb")*"  # load each argument
    rb"\x10(" + _LEB + rb")"                                               # call the import
    rb"\x23\0\x21\x01"
    rb"(?:\xad?\x21\x02\x20\x01\x20\x02(?:\x3e\x02|\x37\x03|\x38\x02|\x39\x03|\x3c\0)" + _LEB + rb")?"  # store result
    rb"\x20\x01\x41\x08\x6a\x22\x01\x24\0\x41\0\x0f\0\x0b", re.DOTALL)             # SP += 8, return 0


def add_threads(module: Module) -> Module:
    """The threaded module. Raises ModuleError when the input was not built with gothreads' overlay."""
    return _Rewrite(module).run()


class _Rewrite:
    def __init__(self, module: Module) -> None:
        self.module = replace(module, types=list(module.types), imports=list(module.imports),
                              functions=list(module.functions),
                              globals=list(module.globals), exports=list(module.exports), bodies=list(module.bodies),
                              raw=dict(module.raw))
        self.types = TypeIndices(self.module.types)
        self.names = function_names(module)
        self.imported = len(module.imported_functions)
        self.host = {(i.module, i.name): index for index, i in enumerate(module.imported_functions)}
        self.exported = {e.name: e.index for e in module.exports if e.kind is Kind.FUNC}
        self.added: list[tuple[int, str]] = []
        if not self.names:
            raise ModuleError("the module has no function names: link it without -s (gothreads build --strip removes "
                              "them afterwards)")
        if "gt_attach" not in self.exported:
            raise ModuleError("the module was built without gothreads' changes to Go's runtime. Build it with: "
                              "gothreads build")
        if not module.memories:
            raise ModuleError("the module has no memory of its own: it has threads already")

    def run(self) -> Module:
        self.share_memory()
        self.make_data_passive()
        self.shrink_table()
        self.add_registers()
        self.fill_stubs()
        self.release_p_in_blocking_imports()
        self.wrap_exports()
        self.add_thread_entries()
        self.add_names()
        return self.module

    # Helpers of the steps.

    def function(self, title: str) -> int:
        """The index of a Go function, by its name in the name section."""
        index = self.names.get(title, -1)
        if not self.imported <= index < self.imported + len(self.module.functions):
            raise ModuleError(f"the module has no function {title}: was it built by a Go version that gothreads "
                              f"supports?")
        return index

    def internal(self, title: str) -> int:
        """The index of a function that the runtime part of the overlay exports."""
        try:
            return self.exported[title]
        except KeyError:
            raise ModuleError(f"the module has no export {title}, which gothreads' changes to Go's runtime have. Build "
                              f"it with: gothreads build") from None

    def host_call(self, module: str, title: str) -> int:
        """The index of a function that the runtime imports."""
        try:
            return self.host[(module, title)]
        except KeyError:
            raise ModuleError(f"the module does not import {module}.{title}: was it built by a Go version that "
                              f"gothreads supports?") from None

    def set_body(self, title: str, body: bytes) -> None:
        self.module.bodies[self.function(title) - self.imported] = body

    def add_function(self, title: str, kind: FuncType, body: bytes) -> int:
        self.module.functions.append(self.types[kind])
        self.module.bodies.append(body)
        index = self.imported + len(self.module.bodies) - 1
        self.added.append((index, title))
        return index

    def add_entry(self, title: str, kind: FuncType, body: bytes) -> None:
        self.module.exports.append(ExportEntry(title, Kind.FUNC, self.add_function(title, kind, body)))

    # The steps.

    def share_memory(self) -> None:
        memory = self.module.memories[0]
        shared = MemoryLimits(memory.minimum, MAX_PAGES, shared=True)
        self.module.memories = []
        self.module.imports.append(Import("env", "memory", Kind.MEMORY, shared.encode()))

    def make_data_passive(self) -> None:
        """Sort and coalesce the data segments, and let a function copy them in.

        Go writes tens of thousands of segments, not in address order.
        """
        merged: list[tuple[int, bytearray]] = []
        for segment in sorted(self.module.data, key=lambda d: d.offset or 0):
            if segment.offset is None or segment.offset < layout.GO_DATA:
                raise ModuleError("the module's data are not where Go's linker puts them")
            if merged:
                start, content = merged[-1]
                gap = segment.offset - start - len(content)
                if gap < 0:
                    raise ModuleError("the module's data overlap")
                if gap < DATA_GAP:
                    content += bytes(gap) + segment.content
                    continue
            merged.append((segment.offset, bytearray(segment.content)))
        self.module.data = [DataSegment(None, bytes(content)) for _, content in merged]
        self.module.data_count = True
        copy = b"".join(
            code.i32_const(signed(start, 32))
            + code.i32_const(0)
            + code.i32_const(len(content))
            + code.memory_init(index)
            + code.data_drop(index)
            for index, (start, content) in enumerate(merged)
        )
        self.add_entry("gt_init_memory", code.VOID, code.body(copy))

    def shrink_table(self) -> None:
        """Drop the table's first 4,096 slots.

        A function's slot is its number in PCs, so these slots are empty, which costs each instance 32 KB. Every slot
        moves down by that much, and every look-up subtracts it. Invalid PCs stay invalid: the index of a slot that was
        empty is now far out of bounds.

        A declarative segment, which fills no table, comes first: it only names functions (LOOKED_UP_BY_CALLERS).
        """
        table, elements = self.module.raw.get(Section.TABLE, b""), self.module.raw.get(Section.ELEMENT, b"")
        segment = b"\x01" + _SEGMENT + code.i32_const(FIRST_FUNCTION_PC) + code.END
        if (not table.startswith(_TABLE) or not elements.startswith(segment)
            or (size := Reader(table[len(_TABLE):], "table").u32()) < FIRST_FUNCTION_PC):
            raise ModuleError("the module's table of functions is not as Go's linker makes it: is this Go version "
                              "supported?")
        self.module.raw[Section.TABLE] = _TABLE + uleb(size - FIRST_FUNCTION_PC)
        first = [uleb(self.names[title]) for title in LOOKED_UP_BY_CALLERS if title in self.names]
        named = b"\x03\x00" + uleb(len(first)) + b"".join(first)
        self.module.raw[Section.ELEMENT] = (b"\x02" + named + _SEGMENT + code.i32_const(0) + code.END
                                            + elements[len(segment):])
        lower = code.i32_const(FIRST_FUNCTION_PC) + code.I32_SUB
        self.module.bodies = [replaced(body,
                                       ((found.offset, found.offset, lower) for found in find(body, CALL_INDIRECT)))
                                       for body in self.module.bodies]

    def add_registers(self) -> None:
        first = len(self.module.globals)
        self.clock, self.fence = first, first + 1
        self.module.globals += [code.I64 + b"\1" + code.i64_const(0) + code.END,
                                code.I32 + b"\1" + code.i32_const(1) + code.END]
        setup = b"".join(code.local_get(i) + code.global_set(register)
                         for i, register in enumerate((self.clock, self.fence)))
        self.add_entry("gt_setup", FuncType(code.I64 + code.I32, b""), code.body(setup))

    def fill_stubs(self) -> None:
        for title in list(self.names):
            function = title.removeprefix(atomic_operations.PACKAGE)
            if function == title or "." in function:  # another package, or a method
                continue
            if function in atomic_operations.BODIES:
                self.set_body(title, atomic_operations.BODIES[function])
            elif function not in atomic_operations.BUILT_ON_OTHERS:
                raise ModuleError(f"internal/runtime/atomic.{function} is not known: is this Go version supported?")
        # func futexWait(addr *uint32, val uint32, ns int64) int32. (waits.py lets the host end it, at load time.)
        wait = code.result(32, 4, code.argument(8, 4) + code.argument(16, 4) + code.argument(24, 8) + code.WAIT32)
        self.set_body("runtime.futexWait", code.body(wait + code.RETURN))
        # func futexWake(addr *uint32, cnt uint32) uint32
        self.set_body("runtime.futexWake",
                      code.body(code.result(24, 4,
                                            code.argument(8, 4) + code.argument(16, 4) + code.NOTIFY) + code.RETURN))
        # func clockOffset() int64
        self.set_body("runtime.clockOffset", code.body(code.result(8, 8, code.global_get(self.clock)) + code.RETURN))
        # func procyield(cycles uint32), renamed to procyieldAsm in Go 1.27: spin briefly. Stock Go does not.
        self.set_body("runtime.procyieldAsm" if "runtime.procyieldAsm" in self.names else "runtime.procyield", SPIN)
        # func publicationBarrier(): makes stores before it visible before stores after it. x86 needs no fence.
        self.set_body("runtime.publicationBarrier",
                      code.body(code.global_get(self.fence) + code.IF + code.FENCE + code.END + code.RETURN))
        # func exitThread(wait *atomic.Uint32): once *wait is 0 the stack may be freed, so nothing touches it then.
        # PAUSE ends the loop that runs Go code.
        free = code.argument(8, 4) + code.i32_const(0) + code.atomic(0x17, 4)
        self.set_body("runtime.exitThread",
                      code.body(free + code.i32_const(1) + code.global_set(code.PAUSE) + code.i32_const(1)))

    def release_p_in_blocking_imports(self) -> None:
        """Make host calls that may block release their P.

        The wrapper F of a host call has no frame: it loads its arguments from the stack, calls, stores the result and
        pops the return address. It becomes: importEnter; the old body; F's return address pushed again; a tail call of
        exitsyscall, whose own return then goes to F's caller, unwound or not. So F needs no point to resume at.

        Calls on sockets run only the old body. They never wait (they return EAGAIN, and Go polls), and releasing the P
        while waiting for the interpreter's lock would only bring more threads to wait for that lock.

        Imports of the program itself may block, too. The runtime's own calls are left unchanged: where they run there
        may be no P to release.
        """
        wrappers = self.import_wrappers()
        titles = {index: title for title, index in self.names.items()}
        for place, imported in enumerate(self.module.imported_functions):
            own = imported.module not in (HOST, WASI)
            if place not in wrappers:
                if own:
                    raise ModuleError(f"the Go function that imports {shown(f'{imported.module}.{imported.name}')} is "
                                      "not as gothreads knows such functions: is it one for JavaScript hosts, has it a "
                                      "parameter of a SIMD type, or is this Go version not supported?")
                continue
            index = wrappers[place]
            title = titles.get(index, f"import {place}")
            parameters = len(self.module.types[imported.type_index].params)
            if title.startswith("runtime.") or not (own
                                                    or imported.name in BLOCKING_CALLS) or parameters > MOST_PARAMETERS:
                continue
            body = index - self.imported
            old = self.add_function(f"{title}.call", code.GO_FUNC, self.module.bodies[body])
            pc = (FIRST_FUNCTION_PC + body) << 16
            push = code.move_sp(-8)
            socket = b""
            if not own and (imported.name.startswith("fd_")
                            or imported.name in ("sock_recv", "sock_send", "sock_shutdown")):
                socket = (code.argument(8, 4) + code.i32_const(layout.FIRST_SOCKET) + code.I32_GE_U + code.IF
                          + code.i32_const(0) + code.call(old) + code.LEAVE + code.END)
            self.module.bodies[body] = code.body(
                socket
                + push
                + code.result(0, 8, code.i64_const(pc))
                + code.call_go(self.function("runtime.gtImportEnter"))
                + code.call_go(old)
                + push
                + code.i32_const(0)
                + code.call(self.function("runtime.exitsyscall"))
            )

    def import_wrappers(self) -> dict[int, int]:
        """Import index -> index of the Go function that only calls it. Go's linker makes an import for each of them."""
        found = {}
        for place, body in enumerate(self.module.bodies):
            match = _IMPORT_WRAPPER.fullmatch(body)
            if match is not None and (called := number(match[1])) < self.imported:
                found[called] = self.imported + place
        return found

    def wrap_exports(self) -> None:
        exports, self.module.exports = self.module.exports, []
        kinds = self.module.function_types()
        for export in exports:
            if export.kind is not Kind.FUNC or export.name in ("_start",
                                                               "_initialize") or export.name.startswith("gt_"):
                if export.name not in INTERNAL:
                    self.module.exports.append(export)
                continue
            kind = kinds[export.index]
            arguments, entered = len(kind.params), len(kind.params)
            self.add_entry(export.name, kind, code.body(
                code.call(self.internal("gt_enter")) + code.local_set(entered)
                + b"".join(code.local_get(i) for i in range(arguments)) + code.call(export.index)
                + code.local_get(entered) + code.IF + code.call(self.internal("gt_leave")) + code.END, code.I32))

    def add_thread_entries(self) -> None:
        def stack_hi(g: bytes) -> bytes:
            return g + code.i64_load(8) + code.WRAP  # g.stack.hi

        def at(g: bytes, below: int) -> bytes:
            """SP := g.stack.hi - below"""
            return stack_hi(g) + code.i32_const(below) + code.I32_SUB + code.global_set(code.SP)

        current = code.global_get(code.G) + code.WRAP
        take_g = code.EXTEND_U + code.global_set(code.G)
        # An M of the Go runtime: runs mstart on its g0, until the M exits.
        self.add_entry("gt_thread_start", FuncType(code.I32, b""), code.body(
            code.local_get(0) + take_g + at(code.local_get(0), 24) + code.result(0, 8, code.i64_const(0))
            + code.call_go(self.function("runtime.mstart")) + code.call(self.function("wasm_pc_f_loop"))))
        # An extra M, for a caller: taken on the bootstrap stack, attached on its own g0, then at rest on its goroutine,
        # below the frame that leave records. The first enter refills Go's list of extra Ms; without it the next take
        # would wait for ever. Returns the goroutine.
        self.add_entry("gt_attach", FuncType(code.I32, code.I32), code.body(
            code.local_get(0) + code.global_set(code.SP)
            + code.call(self.internal("gt_take")) + take_g + at(current, 64)
            + code.call(self.internal("gt_attach")) + take_g + at(current, 40)
            + code.call(self.internal("gt_enter")) + code.DROP + code.call(self.internal("gt_leave")) + current))
        self.add_entry("gt_detach", code.VOID, code.body(
            code.call(self.internal("gt_g0")) + take_g + at(current, 64) + code.call(self.internal("gt_detach"))))
        # The monotonic clock of this instance's store, without the offset.
        scratch = code.i32_const(layout.CLOCK_SCRATCH)
        self.add_entry(
            "gt_read_clock",
            FuncType(b"", code.I64),
            code.body(
                code.i32_const(1)
                + code.i64_const(0)
                + scratch
                + code.call(self.host_call(WASI, "clock_time_get"))
                + code.DROP
                + scratch
                + code.i64_load(0)
            ),
        )

    def add_names(self) -> None:
        """Name the added functions, so that stack traces are readable."""
        self.module.customs = with_names(self.module.customs, self.added)
