"""The functions that a module imports from Python, as declared in Go and as WebAssembly has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gothreads.bridge.go_types import from_wasm, matches, python_type
from gothreads.errors import ModuleError
from gothreads.text import shown
from gothreads.wasm.binary import VALUE_TYPES, FuncType, Module
from gothreads.wasm.host_calls import HOST, WASI
from gothreads.wasm.signature import ImportSignature, Signature

#: A function's import: module and name.
Key = tuple[str, str]


@dataclass(frozen=True)
class ImportedFunction:
    """A function that the module imports.

    signature: from the Go source; None unless that is unambiguous.
    description: its declaration in Go, and one that fits in Python.
    """

    key: Key
    kind: FuncType
    signature: ImportSignature | None
    description: str

    @property
    def name(self) -> str:
        return shown(".".join(self.key))


def imported_functions(title: str, module: Module, declared: Sequence[ImportSignature],
                       provided: Callable[[str, str], bool]) -> dict[Key, ImportedFunction]:
    """The functions that Python has to provide.

    title: the module's name in messages.
    provided: whether an import (module, name) is provided by something else.
    """
    functions: dict[Key, ImportedFunction] = {}
    declarations: dict[Key, list[ImportSignature]] = {}
    for signature in declared:
        declarations.setdefault((signature.module, signature.name), []).append(signature)
    for imported in module.imported_functions:
        key = imported.module, imported.name
        kind = module.types[imported.type_index]
        if imported.module in (HOST, WASI) or provided(*key):
            continue
        if key in functions:
            other = functions[key].kind
            if other != kind:
                raise ModuleError(f"{title}: the module imports {shown('.'.join(key))} with two types, {other} and "
                                  f"{kind}. Declare it with the same parameters everywhere in Go")
            continue
        if len(kind.results) > 1 or any(VALUE_TYPES.get(t) not in ("i32", "i64", "f32", "f64")
                                        for t in kind.params + kind.results):
            raise ModuleError(f"{title}: the module imports {shown('.'.join(key))} with type {kind}, which a Python "
                              "function cannot have: it needs i32, i64, f32 and f64, and at most one result")
        of_name = declarations.get(key, [])
        matching = [s for s in of_name if matches(s, kind)]
        # Two packages may declare it differently.
        unambiguous = len({(tuple(p.type for p in s.params), s.result) for s in matching}) == 1
        found = matching[0] if unambiguous else None
        functions[key] = ImportedFunction(key, kind, found, _describe(imported.name, of_name, found, kind))
    return functions


def _describe(name: str, declared: Sequence[ImportSignature], signature: ImportSignature | None, kind: FuncType) -> str:
    """Describe an import, in Go and in Python."""
    go = " and ".join(shown(f"{s.go} ({s.position})") for s in declared)
    if signature is None:
        guessed = from_wasm(name if name.isidentifier() else "function", kind)
        return f"{go} {kind}" if go else f"a function of the WebAssembly type {kind}, in Python: {_in_python(guessed)}"
    return f"{go}, in Python: {_in_python(signature)}"


def _in_python(signature: Signature) -> str:
    """Write the signature as the first line of a Python function."""
    name = signature.name if signature.name.isidentifier() else signature.function
    parameters = ", ".join(f"{p.name}: {'str' if p.type == 'string' else python_type(p.type)}"
                           for p in signature.params)
    return f"def {name}({parameters}) -> {python_type(signature.result) if signature.result else None}"
