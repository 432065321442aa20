"""The functions that gothreads calls by name, other than the program's own, and their types.

The host's calls are unchecked (engine/ffi.py): nothing compares the types of the arguments with those of the function.
So a module that exports one of these names with another type is refused before any of it runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from gothreads.errors import ModuleError
from gothreads.wasm.binary import FuncType, Kind, Module
from gothreads.wasm.code import I32, I64, VOID

_TAKES = FuncType(I32, b"")
_TAKES_TWO = FuncType(I32 * 2, b"")

#: WASI's entry points.
ENTRIES: Mapping[str, FuncType] = {"_start": VOID, "_initialize": VOID}
#: Exports of gothreads/guest. Every module of `gothreads build` has them; a program of `gothreads test` does not.
GUEST: Mapping[str, FuncType] = {
    "gothreads_slot_open": FuncType(b"", I32), "gothreads_slot_close": _TAKES,
    "gothreads_buffer": FuncType(I32 * 2, I32),
    "gothreads_payload": FuncType(I32 * 2, I32), "gothreads_request": _TAKES_TWO, "gothreads_handlers": _TAKES,
    "gothreads_stacks": _TAKES, "gothreads_release": _TAKES, "gothreads_idle": VOID}
#: Exports of the runtime with threads (build/goroot), and of the rewrite (passes/threads.py).
THREADS: Mapping[str, FuncType] = {
    "gothreads_counts": _TAKES_TWO, "gothreads_blocked": FuncType(I32, I32),
    "gothreads_preparing": FuncType(b"", I32), "gt_init_memory": VOID, "gt_setup": FuncType(I64 + I32, b""),
    "gt_read_clock": FuncType(b"", I64), "gt_attach": FuncType(I32, I32), "gt_detach": VOID, "gt_thread_start": _TAKES}
#: Exports of the same runtime, and two of gothreads/guest, which modules that an earlier gothreads has built lack.
SCHEDULER, PROFILE = "gothreads_scheduler", "gothreads_profile"
TRACED_REQUEST, TIME_LEFT = "gothreads_traced_request", "gothreads_time_left"
_OPTIONAL = {SCHEDULER: _TAKES, PROFILE: FuncType(I32 * 2, I32), TRACED_REQUEST: FuncType(I32 * 3, b""),
             TIME_LEFT: FuncType(I32 + I64, b"")}


def check(module: Module, *, threads: bool) -> None:
    """Raises ModuleError when such an export has another type or, with Go's threads, one of THREADS is missing."""
    required = THREADS if threads else {}
    known = {**ENTRIES, **GUEST, **_OPTIONAL, **required}
    exports = {e.name: e for e in module.exports if e.name in known}
    if missing := sorted(required.keys() - exports.keys()):
        raise ModuleError(f"the module does not export {', '.join(missing)}, which gothreads calls. Build it again: "
                          "gothreads build")
    kinds = module.function_types()
    for name, export in exports.items():
        if export.kind is not Kind.FUNC or kinds[export.index] != known[name]:
            own = kinds[export.index] if export.kind is Kind.FUNC else f"a {export.kind.name.lower()}"
            raise ModuleError(f"the module exports {name} as {own}; gothreads calls it as {known[name]}. Build it "
                              "again: gothreads build, or give the export another name")
