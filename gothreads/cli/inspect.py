"""`gothreads inspect`: describes a module."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

from gothreads.cli.command import Command
from gothreads.cli.module_options import add_build_options
from gothreads.launch import find
from gothreads.output.terminal import Terminal
from gothreads.runtime.module_file import LoadedModule
from gothreads.text import shown
from gothreads.typed.schema import declared_by
from gothreads.wasm.binary import PAGE
from gothreads.wasm.host_calls import HOST
from gothreads.wasm.origins import made_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE", help="a module, or a Go package, which is built first")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_build_options(parser)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    # Trusted, because none of a file's machine code runs here.
    loaded = find(arguments.module, model=arguments.model, go=arguments.go, trust=True)
    terminal.clear()
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
    if loaded.metadata and loaded.metadata.optimized:
        terminal.out("optimized")
    terminal.out(f"memory: {loaded.memory.minimum * PAGE / 1e6:.1f} MB at the start" if loaded.memory
                 else "memory: none")
    print_exports(loaded, terminal)
    if about["handlers"]:
        terminal.out(f"handlers: the program registers them when it runs; to list them: gothreads call {name}")
    elif not loaded.foreign:
        terminal.out("handlers: none")
    for line in _behaviour(name, loaded, about["imports"].get(HOST, ())):
        terminal.out(line)
    for export_name, why in loaded.uncallable.items():
        if export_name != "memory":  # nearly all modules export one, for WASI
            terminal.out(f"cannot be called: {shown(export_name)}: {why}")
    for declared in about["host"]:
        terminal.out(f"needs from Python: {declared['module']}.{declared['name']}: {declared['go']}")
    imports = [f"{module} ({len(names)})" for module, names in sorted(about["imports"].items())]
    terminal.out("imports: " + (", ".join(imports) or "none"))


def _behaviour(name: str, loaded: LoadedModule, calls: Collection[str]) -> Iterator[str]:
    """What the program does besides taking calls, as far as its entry and its imports from gothreads tell."""
    if loaded.foreign:
        return
    if loaded.entry != "_start":
        yield "main: does not run (--buildmode c-shared)"
    elif loaded.threaded:
        yield ("main: runs when the module is opened. A program that needs no calls, such as a server: "
               f"gothreads run {name}")
    else:
        yield f"main: runs to its end, and the module takes no calls: gothreads run {name}"
    if "net_connect" in calls:
        yield "network: package net; it may listen where --listen, and listen and dial where --allow-net says so"
    elif "sock_dial" in calls or "sock_listen" in calls:
        yield "network: guest.Dial and guest.Listen, where --allow-net says so"
    else:
        yield "network: none"
    if {"msg_call", "msg_notify"} & set(calls) and (loaded.has_handlers or not loaded.has_typed):
        yield "calls Python: handlers that are given by name (guest.Call, guest.Notify)"
    if "msg_events" in calls:
        yield "events: the program subscribes to them when it runs (guest.Events)"
    if "signal_want" in calls:
        yield "signals: it may handle them (os/signal)"


def print_exports(loaded: LoadedModule, terminal: Terminal) -> None:
    """Print the exports and the typed functions, with their signatures and documentation."""
    terminal.out("exports:" if loaded.exports else "exports: none")
    for export in loaded.exports:
        terminal.out(f"  {export.signature.declaration}")
        for line in export.signature.doc.strip().splitlines():
            terminal.out(f"      {line}")
    schema = declared_by(loaded.metadata)
    for each in schema.imports:
        terminal.out(f"needs from Python: {each.name}: {shown(each.go)}")
        for method in each.methods if each.methods[0].name else ():
            terminal.out(f"      {method.name}: {shown(method.go)}")
    typed = schema.functions
    if typed:
        terminal.out("typed functions:")
    for function in typed:
        terminal.out(f"  {function.name}: {shown(function.go)}")
        for line in function.doc.strip().splitlines():
            terminal.out(f"      {shown(line)}")


def describe(loaded: LoadedModule) -> dict[str, Any]:
    """Describe a module, in types that JSON has."""
    imports: dict[str, list[str]] = {}  # functions only: the memory is listed separately
    for imported in loaded.outline.imported_functions:
        imports.setdefault(imported.module, []).append(imported.name)
    about, memory = loaded.metadata, loaded.memory
    schema = declared_by(about)
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
        "typed": [asdict(function) for function in schema.functions],
        "typed_imports": [asdict(each) for each in schema.imports],
        "uncallable": dict(loaded.uncallable),
        "imports": imports,
        "host": [asdict(s) for s in about.imports if s.name in imports.get(s.module, ())] if about else [],
    }


INSPECT = Command("inspect", "describe a module and its exports",
                  "  gothreads inspect app.wasm\n  gothreads inspect ./app\n  gothreads inspect app.wasm --json",
                  add_arguments, run)
