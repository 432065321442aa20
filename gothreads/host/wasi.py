"""WASI preview 1 for many instances of one module.

wasmtime's WASI belongs to a store, and each thread has a store. So:

    local    clock, random, arguments, environment, yield: each store's own WASI, nothing is shared
    stdio    reads and writes of descriptors 0, 1 and 2: streams.py
    exit     proc_exit ends the whole module
    proxied  all that goes through the descriptor table: one small proxy module, instantiated once in a store of its own
             over the same memory, passes the calls on to wasmtime's WASI, so there is one table, and wasmtime's sandbox

One lock guards the proxy's store. What can wait for long (standard input) does not hold it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime
from wasmtime._exportable import AsExtern

from gothreads.errors import InternalError, MemoryAccessError, MisuseError
from gothreads.host import ffi
from gothreads.host.streams import EBADF, EINVAL, Input, Output, wasi_errno
from gothreads.slot import Memory
from gothreads.wasm import code
from gothreads.wasm.binary import Export, FuncType, Import, Kind, Limits, Module
from gothreads.wasm.leb import uleb

WASI = "wasi_snapshot_preview1"
LOCAL = frozenset({"args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "clock_time_get", "clock_res_get", "random_get", "sched_yield"})
#: The most that one read or write moves, in bytes: the guest's lengths are only believed so far.
LARGEST_TRANSFER = 1 << 30
_MAX_IOVECS = 1024


@dataclass(frozen=True)
class Mount:
    """A folder of the host's that the module sees at `guest`."""

    host: Path
    guest: str
    read_only: bool = False


@dataclass
class Streams:
    """The module's standard streams."""

    stdin: Input
    stdout: Output
    stderr: Output


@dataclass
class WasiSettings:
    """What the module is told of the world."""

    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()

    def __post_init__(self) -> None:
        for text in (*self.args, *self.env, *self.env.values()):
            if "\0" in text:
                raise MisuseError(f"an argument or a variable of the environment contains a NUL: {text!r}")
        for mount in self.mounts:
            if not mount.host.is_dir():
                raise MisuseError(f"cannot mount {mount.host}: it is not a folder")

    def local(self) -> wasmtime.WasiConfig:
        """For a thread's store: no files."""
        config = wasmtime.WasiConfig()
        config.argv = list(self.args)
        config.env = list(self.env.items())
        return config

    def files(self) -> wasmtime.WasiConfig:
        """For the store that has the descriptor table."""
        config = self.local()
        for mount in self.mounts:
            try:
                config.preopen_dir(str(mount.host), mount.guest, not mount.read_only)
            except wasmtime.WasmtimeError:
                raise MisuseError(f"cannot mount {mount.host} at {mount.guest}: is it a folder that can be read?") from None
        return config


class ExitRequested(Exception):
    """proc_exit was called."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


def type_of(kind: FuncType) -> wasmtime.FuncType:
    """wasmtime's object for a function type of ours."""
    values = {0x7F: wasmtime.ValType.i32, 0x7E: wasmtime.ValType.i64, 0x7D: wasmtime.ValType.f32, 0x7C: wasmtime.ValType.f64}
    return wasmtime.FuncType([values[t]() for t in kind.params], [values[t]() for t in kind.results])


def words(values: int, count: int) -> list[int]:
    """The arguments of a host function, as unsigned 32-bit numbers."""
    return [ctypes.c_uint32.from_address(values + ffi.VALUE_SIZE * i).value for i in range(count)]


def answer(values: int, result: int) -> None:
    """The result of a host function."""
    ctypes.c_int32.from_address(values).value = result


def wasi_imports(module: Module) -> dict[str, FuncType]:
    """The WASI functions that a module imports."""
    return {i.name: module.types[i.type_index] for i in module.imported_functions if i.module == WASI}


def shared_calls(imports: Mapping[str, FuncType]) -> dict[str, FuncType]:
    """Those that are not each store's own."""
    return {name: kind for name, kind in imports.items() if name not in LOCAL}


class StdioCalls:
    """fd_read and fd_write for descriptors 0, 1 and 2, over any memory that can be read and written."""

    def __init__(self, memory: Memory, streams: Streams) -> None:
        self._memory, self._streams = memory, streams

    def read(self, iovecs: int, count: int, done: int) -> int:
        try:
            vectors = self._vectors(iovecs, count)
            data = self._streams.stdin.read(min(sum(size for _, size in vectors), LARGEST_TRANSFER)) if vectors else b""
            rest = memoryview(data)
            for address, size in vectors:
                self._memory.write(address, bytes(rest[:size]))
                rest = rest[size:]
            self._memory.write(done, len(data).to_bytes(4, "little"))
        except MemoryAccessError:
            return EINVAL
        except (OSError, ValueError) as error:
            return wasi_errno(error)
        return 0

    def write(self, descriptor: int, iovecs: int, count: int, done: int) -> int:
        if descriptor == 0:
            return EBADF
        try:
            data = b"".join(self._memory.read(address, size) for address, size in self._vectors(iovecs, count))
            (self._streams.stdout if descriptor == 1 else self._streams.stderr).write(data)
            self._memory.write(done, len(data).to_bytes(4, "little"))
        except MemoryAccessError:
            return EINVAL
        except (OSError, ValueError) as error:
            return wasi_errno(error)
        return 0

    def _vectors(self, iovecs: int, count: int) -> list[tuple[int, int]]:
        if count > _MAX_IOVECS:
            raise MemoryAccessError(f"{count} vectors in one call")
        raw = self._memory.read(iovecs, 8 * count)
        pairs = [(int.from_bytes(raw[i:i + 4], "little"), int.from_bytes(raw[i + 4:i + 8], "little")) for i in range(0, len(raw), 8)]
        if sum(size for _, size in pairs) > LARGEST_TRANSFER:
            raise MemoryAccessError("more than a gigabyte in one call")
        return [pair for pair in pairs if pair[1]]


def files_store(engine: wasmtime.Engine, settings: WasiSettings) -> wasmtime.Store:
    """A store with a descriptor table, for the proxy of many instances."""
    store = wasmtime.Store(engine)
    store.set_wasi(settings.files())
    store.set_epoch_deadline(1 << 40)  # works on when the app's own code is stopped
    return store


class Proxy:
    """The proxy module in a store, under a lock. wasmtime's WASI looks the memory up in the instance that calls it: this one."""

    def __init__(self, store: wasmtime.Store, memory: AsExtern, limits: Limits, imports: Mapping[str, FuncType]) -> None:
        """`imports` are the calls to pass on; `memory` is of these limits."""
        self._lock = threading.Lock()
        with wasmtime.Module(store.engine, _proxy_module(imports, limits)) as module, wasmtime.Linker(store.engine) as linker:
            linker.define_wasi()
            linker.define(store, "env", "memory", memory)
            instance = linker.instantiate(store, module)
        self._calls = {name: (ffi.function(store, instance, name, len(kind.params)), ffi.VALUE_SIZE * len(kind.params)) for name, kind in imports.items()}

    def call(self, name: str, values: int) -> None:
        """Pass a call on: the values are those of the caller, and get the result."""
        function, size = self._calls[name]
        own = ctypes.addressof(function.values)
        with self._lock:
            ctypes.memmove(own, values, size)
            function()
            ctypes.memmove(values, own, ffi.VALUE_SIZE)


def _proxy_module(imports: Mapping[str, FuncType], limits: Limits) -> bytes:
    module = Module()
    for name, kind in imports.items():
        if kind not in module.types:
            module.types.append(kind)
        module.imports.append(Import(WASI, name, Kind.FUNC, uleb(module.types.index(kind))))
    module.imports.append(Import("env", "memory", Kind.MEMORY, limits.encode()))
    module.exports.append(Export("memory", Kind.MEMORY, 0))
    for index, (name, kind) in enumerate(imports.items()):
        module.functions.append(module.types.index(kind))
        module.bodies.append(code.body(b"".join(code.local_get(i) for i in range(len(kind.params))) + code.call(index)))
        module.exports.append(Export(name, Kind.FUNC, len(imports) + index))
    return module.encode()


def define_wasi(functions: ffi.HostFunctions, imports: Mapping[str, FuncType], stdio: StdioCalls, proxy: Proxy) -> None:
    """Define, over wasmtime's own WASI, what must be one for all instances."""
    closed: set[int] = set()  # of 0, 1, 2

    def proc_exit(values: int) -> None:
        raise ExitRequested(ctypes.c_int32.from_address(values).value)

    def fd_read(values: int) -> None:
        descriptor, iovecs, count, done = words(values, 4)
        if descriptor == 0 and 0 not in closed:
            answer(values, stdio.read(iovecs, count, done))
        else:
            proxy.call("fd_read", values)

    def fd_write(values: int) -> None:
        descriptor, iovecs, count, done = words(values, 4)
        if descriptor in (1, 2) and descriptor not in closed:
            answer(values, stdio.write(descriptor, iovecs, count, done))
        else:
            proxy.call("fd_write", values)

    def fd_close(values: int) -> None:
        descriptor = words(values, 1)[0]
        proxy.call("fd_close", values)
        if descriptor < 3 and words(values, 1)[0] == 0:
            closed.add(descriptor)

    own = {"proc_exit": proc_exit, "fd_read": fd_read, "fd_write": fd_write, "fd_close": fd_close}
    for name, kind in shared_calls(imports).items():
        if name not in own and not kind.results:
            raise InternalError(f"WASI's {name} is not known")
        functions.define(WASI, name, type_of(kind), own.get(name) or (lambda values, name=name: proxy.call(name, values)))  # type: ignore[misc]
