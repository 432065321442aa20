"""Inspects a module file before it is run: what kind of module it is, and what it exports."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gothreads.bridge.c_exports import Allocator, CExport
from gothreads.bridge.exports import Export
from gothreads.bridge.go_types import from_wasm, matches
from gothreads.engine.precompiled import MAGIC as MACHINE_CODE
from gothreads.engine.precompiled import Precompiled, Trust, unpack
from gothreads.engine.settings import StopCheck
from gothreads.errors import ModuleError, listed
from gothreads.files import reason
from gothreads.wasm import abi, metadata
from gothreads.wasm.binary import MAGIC, VALUE_TYPES, FuncType, Kind, MemoryLimits, Module, read_limits
from gothreads.wasm.host_calls import HOST
from gothreads.wasm.leb import Reader
from gothreads.wasm.origins import made_for
from gothreads.wasm.parsing import parse

#: Prefixes of exports that are not the program's own.
_PLUMBING = ("gt_", "gothreads_")
_ENTRIES = ("_start", "_initialize")
#: wasi-threads (https://github.com/WebAssembly/wasi-threads): the import that spawns a thread, and the export it runs.
THREAD_SPAWN = ("wasi", "thread-spawn")
THREAD_START = "wasi_thread_start"
#: Imports of gothreads/guest in a program that uses guest.Events, guest.Call or guest.Notify.
_MESSAGES = ("msg_events", "msg_call", "msg_notify")
_I32 = b"\x7f"
#: The limit on parameters and results of all functions that a module imports or exports, together.
_MOST_PARAMETERS = 1_000_000


def _nothing() -> bytes:
    raise ModuleError("there is no file")


@dataclass(frozen=True)
class LoadedModule:
    """A module that was parsed and checked. `entry` is the export that starts it. `foreign`: it was not built from Go.

    `precompiled` is its machine code, if the file holds it. `trusted`: it was built here, or the user trusts the file.
    `memory` is None if it has none, which only foreign modules may. `model` is what it was built for; a foreign module
    is "threaded" if it uses wasi-threads.
    """

    name: str
    wasm: bytes
    outline: Module
    metadata: metadata.Metadata | None
    model: str
    entry: str | None
    exports: tuple[Export, ...]
    memory: MemoryLimits | None
    foreign: bool = False
    precompiled: Precompiled | None = None
    trusted: bool = False
    #: Exports that cannot be called, with the reason.
    uncallable: Mapping[str, str] = field(default_factory=dict)
    #: Reads `wasm` again, which is megabytes, so no app keeps it. ModuleError or OSError if that is not possible.
    read_again: Callable[[], bytes] = field(default=_nothing, compare=False)

    def without_code(self) -> LoadedModule:
        """The same, without the megabytes that only compilation needs."""
        return replace(self, wasm=b"", precompiled=None, outline=replace(self.outline, raw={}, customs=[]))

    def hook(self, name: str) -> Export | None:
        """The export of that name, if it takes no arguments. The host calls `start` and `stop`."""
        return next((export for export in self.exports if export.name == name and not export.signature.params), None)

    @property
    def threaded(self) -> bool:
        return self.model == metadata.THREADED

    @property
    def takes_calls(self) -> bool:
        """Whether it can be called. A main on the module's only thread leaves none for calls."""
        return self.entry != "_start" or (self.threaded and not self.foreign)

    @property
    def has_handlers(self) -> bool:
        return bool(self.metadata and self.metadata.handlers)

    @property
    def may_stream(self) -> bool:
        """Whether it may have handlers that stream: these call the host, to read bodies."""
        return self.has_handlers and any((i.module, i.name) == (HOST, "msg_call") for i in self.outline.imports)

    @property
    def has_typed(self) -> bool:
        """Whether it has typed functions, or imports."""
        return self.metadata is not None and self.metadata.typed is not None

    @property
    def simulated(self) -> bool:
        """Whether it was built for simulate=."""
        return any((i.module, i.name) == (HOST, "simulation_seed") for i in self.outline.imports)

    def stop_check(self, *, main_calls: bool) -> StopCheck:
        """How its code is stopped. main_calls: whether calls may come on the main thread.

        What the module says of itself decides what it costs to stop it, not whether it can be stopped. But where the
        flag stops it, signal handlers run in the middle of a call only if the module lets them. So it must be trusted.
        """
        if not self.threaded or self.metadata is None or not self.metadata.optimized or self.precompiled is not None:
            return StopCheck.EPOCH
        lets_handlers_run = (self.trusted and self.metadata.options.get("preemption") is True
                             and any((i.module, i.name) == (HOST, "run_handlers") for i in self.outline.imports))
        return StopCheck.FLAG if lets_handlers_run or not main_calls else StopCheck.EPOCH

    @property
    def has_messages(self) -> bool:
        """Whether it may ask for events and call handlers of the host.

        It can through gothreads/guest, or through the functions which that imports.
        """
        return self.has_handlers or any(i.module == HOST and i.name in _MESSAGES for i in self.outline.imports)

    @property
    def hooks(self) -> list[str]:
        """Which of `start` and `stop` are exports that can be called."""
        return [name for name in ("start", "stop") if self.hook(name)] if self.takes_calls else []

    @property
    def has_callers(self) -> bool:
        """Whether a host can ever call into it. If not, it is a deadlock when all goroutines wait."""
        typed = self.metadata is not None and bool((self.metadata.typed or {}).get("functions"))
        return bool(self.exports) or self.has_handlers or typed or self.entry == "_initialize"


def load(path: Path, trust: Trust = False) -> LoadedModule:
    """Read a module file. ModuleError says in one line what is wrong with it, and how to fix it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {reason(error)}") from None
    if path.suffix == ".go":
        raise ModuleError(f"{path}: Go source, not a WebAssembly module. To make one of it: gothreads build {path} -o "
                          f"{path.with_suffix('.wasm')}")
    checksum = zlib.crc32(content)  # the time of a file in the cache says when it was last used

    def again(path: Path = path.absolute()) -> bytes:
        found = path.read_bytes()
        if zlib.crc32(found) != checksum:
            raise ModuleError(f"{path} has changed")
        return _wasm(found, trust)[0]
    return replace(load_content(path.name, content, trust, where=str(path)), read_again=again)


def _wasm(content: bytes, trust: Trust) -> tuple[bytes, Precompiled | None]:
    return unpack(content, trust) if content.startswith(MACHINE_CODE) else (content, None)


def load_content(name: str, content: bytes, trust: Trust = False, *, where: str | None = None) -> LoadedModule:
    """The same for the content of a module file.

    trust: whether to use machine code (engine/precompiled.py), and to believe what the module says of itself (only
        True: a digest is for machine code). where: the file's name for messages.
    """
    where = where or name
    try:
        wasm, precompiled = _wasm(content, trust)
        if precompiled is None and content and not content.startswith(MAGIC[:len(content)]):
            raise ModuleError(f"{_kind_of(content)}, not a WebAssembly module. To make one of a Go package: gothreads "
                              f"build PACKAGE -o FILE")
        return replace(check_module(name, wasm), precompiled=precompiled, trusted=precompiled is None and trust is True,
                       read_again=lambda: _wasm(content, trust)[0])
    except ModuleError as error:
        raise ModuleError(f"{where}: {error}") from None


def _kind_of(content: bytes) -> str:
    """A description of a file that is not a module, by its content."""
    try:
        text = content[:1 << 16].decode(errors="strict" if len(content) <= 1 << 16 else "ignore")
    except UnicodeDecodeError:
        return "binary data"
    return "text" if "\0" not in text else "binary data"


def check_module(name: str, wasm: bytes) -> LoadedModule:
    """Parse and check a module. ModuleError if gothreads cannot open it."""
    try:
        outline = parse(wasm, outline=True)
    except ModuleError as error:
        raise ModuleError(f"{error}. To make one of a Go package: gothreads build PACKAGE -o FILE") from None
    section = outline.custom(metadata.SECTION)
    about = metadata.decode(section) if section is not None else None
    memory = outline.memory
    functions = {e.name: e.index for e in outline.exports if e.kind is Kind.FUNC}
    threaded = "gt_attach" in functions and memory is not None and memory.shared
    if about is not None and about.threaded != threaded:
        has = "has threads" if threaded else "has no threads"
        raise ModuleError(f"the module says that it is {about.model}, but {has} (was it changed after the build?). "
                          f"Rebuild it: gothreads build")
    if about is None and threaded:
        raise ModuleError("the module has threads but no section 'gothreads' (was it stripped by another tool?). Use: "
                          "gothreads build --strip")
    if about is None and "gt_attach" in functions:
        raise ModuleError("the program was linked by `gothreads test -c`, or by go with gothreads' overlay. Run it: "
                          "gothreads go-exec FILE. To make a module: gothreads build")
    imported = [read_limits(Reader(i.description, "import")) for i in outline.imports if i.kind is Kind.MEMORY]
    if imported + outline.memories != [memory] and any(m.shared for m in imported + outline.memories):
        # A thread that waits in a memory other than the host's could not be ended.
        raise ModuleError("the module has threads and more than one memory, which gothreads cannot run")
    abi.check(outline, threads=threaded)
    _check_parameters(outline, functions)
    foreign = about is None and outline.custom("go:buildid") is None
    if foreign:
        try:
            _check_foreign(outline, functions, imported)
        except ModuleError:
            if (origin := made_for(outline)) is not None:
                raise ModuleError(f"the module was built for {origin}") from None
            raise
        threaded = memory is not None and memory.shared
    elif memory is None or (memory.shared and not threaded):
        has = "no memory" if memory is None else "a shared memory, but not gothreads' threads"
        raise ModuleError(f"the module has {has}. Rebuild it: gothreads build ./app -o app.wasm")
    elif threaded and not imported:
        raise ModuleError("the module has threads and a memory of its own, so its threads could not share it. Rebuild "
                          "it: gothreads build")
    entry = next((entry for entry in _ENTRIES if entry in functions), None)
    exports = _foreign_exports(outline, functions) if foreign else _exports(outline, about, functions)
    uncallable = _uncallable(outline, {export.name for export in exports}, foreign=foreign)
    return LoadedModule(name, wasm, outline, about, metadata.THREADED if threaded else metadata.SINGLE, entry, exports,
                        memory, foreign, uncallable=uncallable)


def _check_parameters(outline: Module, functions: dict[str, int]) -> None:
    """Bound the total number of parameters and results.

    A type with many parameters may be the type of many functions, and each of them gets a declaration.
    """
    types = outline.function_types()
    kinds = (types[index] for index in (*functions.values(), *range(len(outline.imported_functions))))
    taken = sum(len(kind.params) + len(kind.results) for kind in kinds)
    if taken > _MOST_PARAMETERS:
        raise ModuleError(f"the functions that the module imports and exports have {taken:,} parameters and results; "
                          f"gothreads takes {_MOST_PARAMETERS:,} at the most")


def _check_foreign(outline: Module, functions: dict[str, int], memories: list[MemoryLimits]) -> None:
    """ModuleError if a module that was not built from Go cannot be run: all its imports must be available."""
    if not functions:
        raise ModuleError("the module exports no function, so there is nothing to run or call. For a Go package: "
                          "gothreads build ./app -o app.wasm")
    others = [f"{i.module}.{i.name} (a {i.kind.name.lower()})" for i in outline.imports
              if i.kind not in (Kind.FUNC, Kind.MEMORY)]
    if others:
        raise ModuleError(f"the module imports {listed(others)}, which nobody provides: only functions, and a memory "
                          "for threads, are. Link it as a whole, not as a part of another module")
    if any(not memory.shared for memory in memories):
        raise ModuleError("the module imports a memory that is not shared, which nobody provides. Link it with a "
                          "memory of its own (without --import-memory); or, if it is to have threads, with "
                          "--shared-memory")
    if any(memory.shared for memory in outline.memories):
        raise ModuleError("the module has a shared memory of its own, so its threads could not share it. Link it with "
                          "--import-memory")
    spawn = next((outline.types[i.type_index] for i in outline.imported_functions
                  if (i.module, i.name) == THREAD_SPAWN), None)
    if spawn is None:
        return
    start = outline.function_types()[functions[THREAD_START]] if THREAD_START in functions else None
    if not memories or spawn != FuncType(_I32, _I32) or start != FuncType(_I32 * 2, b""):
        raise ModuleError(f"the module imports {'.'.join(THREAD_SPAWN)}, but does not follow wasi-threads: it must "
                          f"import a shared memory, and export {THREAD_START}(i32, i32). Build it for "
                          f"wasm32-wasi-threads")


def _foreign_exports(outline: Module, functions: dict[str, int]) -> tuple[Export, ...]:
    allocator = Allocator.of(outline, functions)
    types = outline.function_types()
    kinds = {name: types[index] for name, index in sorted(functions.items()) if name not in (*_ENTRIES, THREAD_START)}
    return tuple(CExport(name, kind, allocator) for name, kind in kinds.items() if _is_plain(kind))


def _exports(outline: Module, about: metadata.Metadata | None, functions: dict[str, int]) -> tuple[Export, ...]:
    """The program's own exports, with the signatures from the source where these match the module."""
    signatures = {s.name: s for s in about.exports} if about else {}
    types = outline.function_types()
    found = []
    for name, index in sorted(functions.items()):
        if name in _ENTRIES or name.startswith(_PLUMBING):
            continue
        kind = types[index]
        signature = signatures.get(name)
        if signature is not None and matches(signature, kind):
            found.append(Export(signature))
        elif _is_plain(kind):
            found.append(Export(from_wasm(name, kind)))
    return tuple(found)


def _is_plain(kind: FuncType) -> bool:
    """Whether the host can call it: only numbers, and at most one result."""
    return not _odd_types(kind) and len(kind.results) <= 1


def _odd_types(kind: FuncType) -> list[str]:
    """The value types that are not numbers."""
    names = [VALUE_TYPES.get(t, f"{t:#x}") for t in kind.params + kind.results]
    return [name for name in dict.fromkeys(names) if name not in ("i32", "i64", "f32", "f64")]


def _uncallable(outline: Module, callable_: set[str], *, foreign: bool) -> dict[str, str]:
    """The exports that can neither be called nor are used by the host itself, each with the reason."""
    types, found = outline.function_types(), {}
    for export in outline.exports:
        name = export.name
        if name in callable_ or name in _ENTRIES or (name == THREAD_START if foreign else name.startswith(_PLUMBING)):
            continue
        if export.kind is not Kind.FUNC:
            hint = " (see App.memory)" if export.kind is Kind.MEMORY else ""
            found[name] = f"it is a {export.kind.name.lower()}, not a function{hint}"
            continue
        kind = types[export.index]
        if odd := _odd_types(kind):
            found[name] = (f"it takes or returns {', '.join(odd)}, for which Python has no values; numbers can be "
                           f"passed: {kind}")
        else:
            found[name] = (f"it returns {len(kind.results)} values, and a call can return one: {kind}. Return them in "
                           "the module's memory, or packed into an i64")
    return found
