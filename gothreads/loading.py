"""A module file, looked at before it is run: what it is, and what it exports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gothreads.errors import ModuleError
from gothreads.exports import Export, from_wasm, matches
from gothreads.wasm import metadata
from gothreads.wasm.binary import VALUE_TYPES, Kind, Limits, Module
from gothreads.wasm.parsing import parse

#: Exports that are not the program's own.
_PLUMBING = ("gt_", "gothreads_")
_ENTRIES = ("_start", "_initialize")


@dataclass(frozen=True)
class LoadedModule:
    """`entry` is what starts it. `go` is None when the module was not built by gothreads build."""

    name: str
    wasm: bytes
    outline: Module
    metadata: metadata.Metadata | None
    model: str
    entry: str | None
    exports: tuple[Export, ...]
    memory: Limits

    def without_code(self) -> LoadedModule:
        """The same, without the megabytes that only compiling needs."""
        return replace(self, wasm=b"", outline=replace(self.outline, raw={}, customs=[]))

    @property
    def has_callers(self) -> bool:
        """Whether a host can ever call into it: if not, goroutines that all wait are a deadlock."""
        return bool(self.exports) or bool(self.metadata and self.metadata.handlers) or self.entry == "_initialize"


def load(path: Path) -> LoadedModule:
    """Read a module file. ModuleError says in one line what is wrong with it, and how to mend it."""
    try:
        wasm = path.read_bytes()
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {error.strerror}") from None
    try:
        return inspect_module(path.name, wasm)
    except ModuleError as error:
        raise ModuleError(f"{path}: {error}") from None


def inspect_module(name: str, wasm: bytes) -> LoadedModule:
    """What a module is. ModuleError when it is none that gothreads can open."""
    try:
        outline = parse(wasm, outline=True)
    except ModuleError as error:
        raise ModuleError(f"{error}. Build it again: gothreads build PACKAGE -o FILE") from None
    section = outline.custom(metadata.SECTION)
    about = metadata.decode(section) if section is not None else None
    memory = outline.memory
    if memory is None:
        raise ModuleError("the module has no memory: was it built from Go?")
    functions = {e.name: e.index for e in outline.exports if e.kind is Kind.FUNC}
    threaded = "gt_attach" in functions and memory.shared
    if about is not None and (about.model == "threaded") != threaded:
        has = "has threads" if threaded else "has no threads"
        raise ModuleError(f"the module says that it is {about.model}, but {has} (was it changed after the build?). Rebuild it: gothreads build")
    if about is None:
        if threaded:
            raise ModuleError("the module has threads but no section 'gothreads' (was it stripped by another tool?). Use: gothreads build --strip")
        if outline.custom("go:buildid") is None and "_initialize" not in functions and "_start" not in functions:
            raise ModuleError("the module was not built from Go for WASI. Build a Go package: gothreads build ./app -o app.wasm")
    if memory.shared and not threaded:
        raise ModuleError("the module has a shared memory, but not gothreads' threads. Rebuild it: gothreads build ./app -o app.wasm")
    entry = next((entry for entry in _ENTRIES if entry in functions), None)
    return LoadedModule(name, wasm, outline, about, "threaded" if threaded else "single", entry, _exports(outline, about, functions), memory)


def _exports(outline: Module, about: metadata.Metadata | None, functions: dict[str, int]) -> tuple[Export, ...]:
    """The program's own exports, with the source's signatures where they fit what is there."""
    signatures = {s.name: s for s in about.exports} if about else {}
    found = []
    for name, index in sorted(functions.items()):
        if name in _ENTRIES or name.startswith(_PLUMBING):
            continue
        kind = outline.function_type(index)
        signature = signatures.get(name)
        if signature is not None and matches(signature, kind):
            found.append(Export(signature))
        elif all(VALUE_TYPES.get(t) in ("i32", "i64", "f32", "f64") for t in kind.params + kind.results) and len(kind.results) <= 1:
            found.append(Export(from_wasm(name, kind)))
    return tuple(found)
