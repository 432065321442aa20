"""The functions that gothreads itself provides to modules: one table. A module imports them from `gothreads`.

Which calls may wait, also of WASI's, is here too.

To add one: a line here, its implementation in what serves it, and the declaration in Go (build/goroot).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gothreads.errors import ModuleError
from gothreads.wasm.binary import FuncType, Module
from gothreads.wasm.code import I32, I64, VOID

#: The import modules that are not the program's own: gothreads' and WASI's.
HOST, WASI = "gothreads", "wasi_snapshot_preview1"


class Server(Enum):
    """What implements a call, in a method of the call's name."""

    PIPES = "wasi.calls.pipe.PipeCalls"
    SOCKETS = "wasi.sockets.SocketCalls"
    NETWORK = "wasi.network.NetworkCalls"
    ZONES = "wasi.zones.ZoneCalls"
    MESSAGES = "bridge.messages.MessageCalls"
    SIMULATION = "wasi.simulation.Simulation"          # with simulate= only
    POLLER = "wasi.poller.Poller"                      # with threads only, as the next
    SIGNALS = "wasi.signals.Signals"
    RUNTIME = "runtime.models.threaded.RuntimeCalls"   # called by Go's runtime


@dataclass(frozen=True)
class BuiltinCall:
    """`blocks`: it may wait, so the goroutine's P is released meanwhile (passes/threads.py)."""

    name: str
    type: FuncType
    server: Server
    blocks: bool = False


#: By name. A string of Go's is two parameters: its address and its length. An i32 as result is an errno, except for
#: poll_wait, and those of Server.SIGNALS and Server.RUNTIME.
BUILTIN_CALLS = {call.name: call for call in (
    BuiltinCall("pipe_open", FuncType(I32, I32), Server.PIPES),
    BuiltinCall("sock_listen", FuncType(I32 * 5, I32), Server.SOCKETS, blocks=True),  # resolves a name
    BuiltinCall("sock_dial", FuncType(I32 * 6, I32), Server.SOCKETS, blocks=True),    # resolves a name
    BuiltinCall("sock_connected", FuncType(I32, I32), Server.SOCKETS),
    BuiltinCall("sock_address", FuncType(I32 * 5, I32), Server.SOCKETS),
    BuiltinCall("net_socket", FuncType(I32 * 4, I32), Server.NETWORK),
    BuiltinCall("net_bind", FuncType(I32 * 2, I32), Server.NETWORK),
    BuiltinCall("net_listen", FuncType(I32 * 2, I32), Server.NETWORK),
    BuiltinCall("net_connect", FuncType(I32 * 2, I32), Server.NETWORK),
    BuiltinCall("net_accept", FuncType(I32 * 3, I32), Server.NETWORK),
    BuiltinCall("net_name", FuncType(I32 * 3, I32), Server.NETWORK),
    BuiltinCall("net_getsockopt", FuncType(I32 * 4, I32), Server.NETWORK),
    BuiltinCall("net_setsockopt", FuncType(I32 * 5, I32), Server.NETWORK),
    BuiltinCall("net_receive", FuncType(I32 * 7, I32), Server.NETWORK),
    BuiltinCall("net_send", FuncType(I32 * 6, I32), Server.NETWORK),
    BuiltinCall("net_shutdown", FuncType(I32 * 2, I32), Server.NETWORK),
    BuiltinCall("fd_dup", FuncType(I32 * 2, I32), Server.NETWORK),
    BuiltinCall("net_lookup", FuncType(I32 * 7, I32), Server.NETWORK, blocks=True),
    BuiltinCall("time_zone", FuncType(I32 * 5, I32), Server.ZONES),
    BuiltinCall("msg_call", FuncType(I64 + I32 * 4, I32), Server.MESSAGES),
    BuiltinCall("msg_notify", FuncType(I32 * 4, I32), Server.MESSAGES),
    BuiltinCall("msg_cancel", FuncType(I64, I32), Server.MESSAGES),
    BuiltinCall("msg_replies", FuncType(I32, I32), Server.MESSAGES),
    BuiltinCall("msg_cancels", FuncType(I32, I32), Server.MESSAGES),
    BuiltinCall("msg_events", FuncType(I32 * 3, I32), Server.MESSAGES),
    BuiltinCall("idle_open", FuncType(I32, I32), Server.MESSAGES),
    BuiltinCall("simulation_seed", FuncType(I32, I32), Server.SIMULATION),
    BuiltinCall("poll_open", FuncType(I32 * 3, I32), Server.POLLER),
    BuiltinCall("poll_wait", FuncType(I64 + I32 * 2, I32), Server.POLLER),
    BuiltinCall("poll_break", VOID, Server.POLLER),
    BuiltinCall("signal_want", FuncType(I32 * 2, b""), Server.SIGNALS),
    BuiltinCall("signal_raise", FuncType(I32, I32), Server.SIGNALS),
    BuiltinCall("ncpu", FuncType(b"", I32), Server.RUNTIME),
    BuiltinCall("thread_spawn", FuncType(I32, I32), Server.RUNTIME),
    BuiltinCall("initialized", VOID, Server.RUNTIME),
    BuiltinCall("has_callers", FuncType(b"", I32), Server.RUNTIME),
    BuiltinCall("least_heap", FuncType(b"", I32), Server.RUNTIME),
    BuiltinCall("run_handlers", VOID, Server.RUNTIME),
)}

#: The calls that may wait for a disk, a pipe or a peer: WASI's and gothreads' own. A goroutine gives up its P for them.
#: Calls that only look something up keep it.
BLOCKING_CALLS = frozenset({
    "fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_filestat_get", "fd_filestat_set_size",
    "fd_filestat_set_times", "fd_pread", "fd_pwrite", "fd_read", "fd_readdir", "fd_renumber", "fd_seek", "fd_sync",
    "fd_write", "path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_link", "path_open",
    "path_readlink", "path_remove_directory", "path_rename", "path_symlink", "path_unlink_file", "poll_oneoff",
    "sock_accept", "sock_recv", "sock_send", "sock_shutdown",
    *(call.name for call in BUILTIN_CALLS.values() if call.blocks),
})


def imported_calls(module: Module) -> list[BuiltinCall]:
    """The calls that a module imports. ModuleError if it imports one with another type."""
    found = {}
    for imported in module.imported_functions:
        call = BUILTIN_CALLS.get(imported.name) if imported.module == HOST else None
        if call is None:
            continue
        if (kind := module.types[imported.type_index]) != call.type:
            raise ModuleError(f"the module imports {HOST}.{call.name} as {kind}, which is not its type: {call.type}. "
                              f"Rebuild it: gothreads build")
        found[call.name] = call
    return list(found.values())
