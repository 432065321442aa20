"""The memory that all instances of an app share.

A WebAssembly shared memory never moves and never shrinks, so its base address is valid until `close`; it may grow at
any time. Every access is checked against the size at that moment. The contents belong to Go and may change at any
time: copy first, then check the copy.

Addresses and lengths are in bytes. Numbers are little-endian, as in WebAssembly. All methods may be called from any
thread.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from abc import ABC, abstractmethod
from typing import Any

import wasmtime
from wasmtime import _ffi

from gothreads.engine import ffi
from gothreads.errors import AppClosed, ArgumentError, MemoryAccessError, ModuleError
from gothreads.text import as_size
from gothreads.wasm import code
from gothreads.wasm.binary import MAX_PAGES, PAGE, ExportEntry, FuncType, Import, Kind, MemoryLimits, Module

_view = ctypes.pythonapi.PyMemoryView_FromMemory
_view.restype, _view.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_PyBUF_WRITE = 0x200
_u32, _u64 = struct.Struct("<I"), struct.Struct("<Q")


def buffer(address: int, length: int) -> memoryview:
    """A writable view of this process's memory. (ctypes would make an array type for each length and never free it.)"""
    view: memoryview = _view(address, length, _PyBUF_WRITE)
    return view


class BoundedMemory(ABC):
    """Bounds-checked access to a memory. Addresses and lengths are in bytes, numbers are little-endian.

    Every access holds `_use`, and so does `close`, so no access is under way when the memory is freed. Accesses raise
    MemoryAccessError when they are out of bounds, and AppClosed after `close`.
    """

    def __init__(self) -> None:
        self._use = threading.RLock()
        self._closed = False

    @abstractmethod
    def _bounds(self) -> tuple[int, int]:
        """The host address and the current size. Not called after close."""

    @property
    def size(self) -> int:
        """The current size in bytes."""
        with self._use:
            self._check_open()
            return self._bounds()[1]

    @property
    def pages(self) -> int:
        """The current size in pages of 64 KiB."""
        return self.size // PAGE

    def address(self, offset: int, length: int) -> int:
        """The host address of `length` bytes at `offset`; MemoryAccessError if they are not all in the memory.

        Valid until the app is closed, like the result of `view`.
        """
        with self._use:
            self._check_open()
            base, size = self._bounds()
        if offset < 0 or length < 0 or offset + length > size:
            raise MemoryAccessError(f"{length:,} bytes at address {offset:#x} are outside the memory of {size:,} bytes")
        return base + offset

    def read(self, offset: int, length: int) -> bytes:
        """A copy of `length` bytes."""
        with self._use:
            address = self.address(offset, length)
            return ctypes.string_at(address, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if isinstance(data, bytes):
            with self._use:
                ctypes.memmove(self.address(offset, len(data)), data, len(data))
            return
        with memoryview(data) as view, self._use:
            flat = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
            if len(flat):
                buffer(self.address(offset, len(flat)), len(flat))[:] = flat
            else:
                self.address(offset, 0)

    def view(self, offset: int, length: int) -> memoryview:
        """A writable view of the bytes themselves. Using it after the app is closed is undefined behaviour."""
        address = self.address(offset, length)
        return buffer(address, length)

    def read_u8(self, offset: int) -> int:
        return self.read(offset, 1)[0]

    def write_u8(self, offset: int, value: int) -> None:
        self._write_int(offset, value, 1, signed=False)

    def read_u32(self, offset: int) -> int:
        return int(_u32.unpack(self.read(offset, 4))[0])

    def read_u64(self, offset: int) -> int:
        return int(_u64.unpack(self.read(offset, 8))[0])

    def read_i32(self, offset: int) -> int:
        return int.from_bytes(self.read(offset, 4), "little", signed=True)

    def read_i64(self, offset: int) -> int:
        return int.from_bytes(self.read(offset, 8), "little", signed=True)

    def read_f64(self, offset: int) -> float:
        return float(struct.unpack("<d", self.read(offset, 8))[0])

    def write_u32(self, offset: int, value: int) -> None:
        self._write_int(offset, value, 4, signed=False)

    def write_u64(self, offset: int, value: int) -> None:
        self._write_int(offset, value, 8, signed=False)

    def write_i32(self, offset: int, value: int) -> None:
        self._write_int(offset, value, 4, signed=True)

    def write_i64(self, offset: int, value: int) -> None:
        self._write_int(offset, value, 8, signed=True)

    def write_f64(self, offset: int, value: float) -> None:
        self.write(offset, struct.pack("<d", value))

    def load_u32(self, offset: int) -> int:
        """An aligned load, which is atomic on all machines that wasmtime compiles for."""
        self._check_aligned(offset)
        with self._use:
            return int(ctypes.c_uint32.from_address(self.address(offset, 4)).value)

    def store_u32(self, offset: int, value: int) -> None:
        """An aligned store, which is atomic on all machines that wasmtime compiles for."""
        self._check_aligned(offset)
        if not 0 <= value < 1 << 32:
            raise ArgumentError(f"{value} does not fit in 4 bytes, unsigned")
        with self._use:
            ctypes.c_uint32.from_address(self.address(offset, 4)).value = value

    def close(self) -> None:
        """Make every later access raise AppClosed."""
        with self._use:
            self._closed = True

    def _write_int(self, offset: int, value: int, length: int, *, signed: bool) -> None:
        try:
            self.write(offset, value.to_bytes(length, "little", signed=signed))
        except OverflowError:
            raise ArgumentError(f"{value} does not fit in {length} bytes, "
                                f"{'signed' if signed else 'unsigned'}") from None

    def _check_open(self) -> None:
        if self._closed:
            raise AppClosed("the memory is gone: the app was closed")

    @staticmethod
    def _check_aligned(offset: int) -> None:
        if offset % 4:
            raise MemoryAccessError(f"address {offset:#x} is not a multiple of 4")


class _Handle(wasmtime.SharedMemory):
    """Works around wasmtime-py#318: `_as_extern` passes a pointer to a pointer, and linking fails."""

    def _as_extern(self) -> Any:
        union = _ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return _ffi.wasmtime_extern_t(_ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)


class SharedMemory(BoundedMemory):
    """A memory of `minimum` pages of 64 KiB that may grow to `maximum`, which is the only limit on Go's memory use.

    ModuleError when it cannot be made.
    """

    def __init__(self, engine: wasmtime.Engine, minimum: int, maximum: int) -> None:
        super().__init__()
        if maximum < minimum:
            raise ModuleError(f"the module needs {as_size(minimum * PAGE)} of memory to start, the limit is "
                              f"{as_size(maximum * PAGE)}. Raise it (--memory SIZE, in Python Limits(memory=...))")
        try:
            self.handle: wasmtime.SharedMemory = _Handle(
                engine, wasmtime.MemoryType(wasmtime.Limits(minimum, maximum), shared=True)
            )
        except wasmtime.WasmtimeError as error:
            raise ModuleError(f"cannot reserve memory for the module: {error}") from None
        self._base = ctypes.addressof(self.handle.data_ptr().contents)
        self._known = 0  # a size seen earlier: still within bounds, since the memory never shrinks
        self._notifier = _Notifier(engine, self.handle, minimum)  # guarded by _use

    def __repr__(self) -> str:
        try:
            return f"<gothreads.SharedMemory {self.size:,} bytes>"
        except AppClosed:
            return "<gothreads.SharedMemory closed>"

    def _bounds(self) -> tuple[int, int]:
        self._known = int(self.handle.data_len())
        return self._base, self._known

    def address(self, offset: int, length: int) -> int:
        if offset >= 0 and length >= 0 and offset + length <= self._known and not self._closed:
            return self._base + offset
        return super().address(offset, length)

    @property
    def pointers(self) -> tuple[int, int]:
        """The host addresses of the memory and of its wasmtime_sharedmemory_t, for C code that uses an instance."""
        return self._base, ffi.address(self.handle.ptr())

    def grow(self, pages: int) -> int:
        """Grow by `pages` pages; returns the previous size, in pages. MemoryAccessError when it cannot grow that far.

        Go manages its own memory and does not use the pages added here.
        """
        self._check_open()
        if pages > MAX_PAGES:  # wasmtime-py would cut it to 64 bits
            raise MemoryAccessError(f"the memory cannot grow from {self.pages:,} pages by {pages:,}: WebAssembly has "
                                    f"no more than {MAX_PAGES:,}")
        try:
            with self._use:
                self._check_open()
                return int(self.handle.grow(pages))
        except wasmtime.WasmtimeError as error:
            raise MemoryAccessError(f"the memory cannot grow from {self.pages:,} pages by {pages:,}: {error}") from None

    def notify(self, offset: int, count: int = (1 << 32) - 1) -> int:
        """Wake up to `count` threads waiting on the futex at an aligned address; returns how many were woken.

        This is memory.atomic.notify.
        """
        self._check_aligned(offset)
        self.address(offset, 4)
        with self._use:
            self._check_open()
            return self._notifier(offset, count)

    def close(self) -> None:
        """Free the memory. No instance that uses it may be left."""
        with self._use:
            if not self._closed:
                super().close()
                self._notifier.close()
                self.handle.close()


class _Notifier:
    """Runs the instruction memory.atomic.notify in a module of one function: wasmtime's C API does not offer it."""

    def __init__(self, engine: wasmtime.Engine, memory: wasmtime.SharedMemory, minimum: int) -> None:
        body = code.body(code.local_get(0) + code.local_get(1) + code.NOTIFY)
        module = Module(types=[FuncType(code.I32 * 2, code.I32)], functions=[0], bodies=[body],
                        exports=[ExportEntry("notify", Kind.FUNC, 0)],
                        imports=[Import("env", "memory", Kind.MEMORY,
                                        MemoryLimits(minimum, MAX_PAGES, shared=True).encode())])
        compiled = wasmtime.Module(engine, module.encode())
        self._store = wasmtime.Store(engine)
        self._store.set_epoch_deadline(1 << 40)  # keeps working when the app's own code is stopped
        self._notify = ffi.function(self._store, wasmtime.Instance(self._store, compiled, [memory]), "notify", "II",
                                    "I")
        compiled.close()

    def __call__(self, offset: int, count: int) -> int:
        woken: int = self._notify(offset, count)
        return woken

    def close(self) -> None:
        self._store.close()
