"""`gothreads inspect`: describes a module."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gothreads.cli.command import Command
from gothreads.errors import ModuleError
from gothreads.output.terminal import Terminal
from gothreads.runtime.module_file import LoadedModule, load
from gothreads.text import shown
from gothreads.typed.schema import read_schema
from gothreads.wasm.binary import PAGE
from gothreads.wasm.origins import made_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE", help="a module")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if os.path.isdir(arguments.module):  # not Path.is_dir, which raises for names that are too long
        raise ModuleError(f"{arguments.module} is a folder, not a module. Build it first: gothreads build "
                          f"{arguments.module} -o app.wasm")
    loaded = load(Path(arguments.module))
    about = describe(loaded)
    if arguments.json:
        terminal.data(about)
    else:
        _print(arguments.module, loaded, about, terminal)
    return 0


def _print(name: str, loaded: LoadedModule, about: dict[str, Any], terminal: Terminal) -> None:
    built = (f"built by gothreads {about['gothreads']} with {about['go']}" if loaded.metadata
             else "not built by gothreads")
    terminal.out(f"{name}: {about['bytes'] / 1e6:.1f} MB, {about['model']}, {about['buildmode']}, {built}")
    if about["made_for"]:
        terminal.out(f"built for {about['made_for']}")
    if isinstance(seed := about["options"].get("sharpen"), int):
        terminal.out(f"races sharpened with seed {seed}: for tests, it is slow")
    terminal.out(f"memory: {loaded.memory.minimum * PAGE / 1e6:.1f} MB at the start" if loaded.memory
                 else "memory: none")
    terminal.out("exports:" if loaded.exports else "exports: none")
    for export in loaded.exports:
        terminal.out(f"  {export.signature.declaration}")
        for line in export.signature.doc.strip().splitlines():
            terminal.out(f"      {line}")
    if about["typed"]:
        terminal.out("typed functions:")
    for function in about["typed"]:
        terminal.out(f"  {shown(function['name'])}: {shown(function['go'])}")
        for line in function["doc"].strip().splitlines():
            terminal.out(f"      {shown(line)}")
    for export_name, why in loaded.uncallable.items():
        if export_name != "memory":  # nearly all modules export one, for WASI
            terminal.out(f"cannot be called: {shown(export_name)}: {why}")
    for declared in about["host"]:
        terminal.out(f"needs from Python: {declared['module']}.{declared['name']}: {declared['go']}")
    imports = [f"{module} ({len(names)})" for module, names in sorted(about["imports"].items())]
    terminal.out("imports: " + (", ".join(imports) or "none"))


def describe(loaded: LoadedModule) -> dict[str, Any]:
    """Describe a module, in types that JSON has."""
    imports: dict[str, list[str]] = {}  # functions only: the memory is listed separately
    for imported in loaded.outline.imported_functions:
        imports.setdefault(imported.module, []).append(imported.name)
    about, memory = loaded.metadata, loaded.memory
    return {
        "bytes": len(loaded.wasm), "model": loaded.model, "entry": loaded.entry,
        "buildmode": about.buildmode if about else ("exe" if loaded.entry == "_start" else "c-shared"),
        "foreign": loaded.foreign,
        "made_for": made_for(loaded.outline),
        "gothreads": about.version if about else None, "go": about.go if about else None,
        "options": dict(about.options) if about else {},
        "handlers": bool(about and about.handlers),
        "memory": memory and {"minimum": memory.minimum * PAGE, "maximum": memory.maximum and memory.maximum * PAGE},
        "exports": [asdict(export.signature) for export in loaded.exports],
        "typed": [asdict(function) for function in read_schema(about.typed).functions] if about and about.typed else [],
        "uncallable": dict(loaded.uncallable),
        "imports": imports,
        "host": [asdict(s) for s in about.imports if s.name in imports.get(s.module, ())] if about else [],
    }


INSPECT = Command("inspect", "describe a module and its exports",
                  "  gothreads inspect app.wasm\n  gothreads inspect app.wasm --json",
                  add_arguments, run)
