"""Defines WASI preview 1 for many instances of one module.

wasmtime's WASI belongs to a store, and each thread has its own store. So the calls are of two kinds:

    local    clock, random, arguments, environment, yield: from each store's own WASI; no shared state
    shared   all others, over one descriptor table: wasi/calls.py
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import posixpath
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import wasmtime

from gothreads.engine import ffi
from gothreads.errors import AppClosed, MemoryAccessError, MisuseError, ModuleError
from gothreads.files import reason
from gothreads.text import cut, shown
from gothreads.wasi.calls import ExitRequested, WasiCalls
from gothreads.wasi.descriptors import Descriptor, DescriptorTable
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.openat import PLACE
from gothreads.wasi.streams import OutputExceeded
from gothreads.wasi.virtual_root import File, Root
from gothreads.wasm.binary import FuncType
from gothreads.wasm.host_calls import WASI

log = logging.getLogger("gothreads")

LOCAL = frozenset({"args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "clock_time_get", "clock_res_get", "random_get", "sched_yield"})
_EFAULT, _EINVAL, _EIO, _ENOMEM = (wasi_errno(OSError(number, "")) for number in (errno.EFAULT, errno.EINVAL, errno.EIO, errno.ENOMEM))
#: Exceptions by which a call ends the module: the module exits, has written too much or has already ended, or a file
#: object that the program passed in raised.
_ENDS = (ExitRequested, OutputExceeded, AppClosed, ffi.Raised)
_I32, _I64 = 0x7F, 0x7E


@dataclass(frozen=True)
class Mount:
    """A host folder, or a single read-only file, that the module sees at path `guest`."""

    host: Path
    guest: str
    read_only: bool = False


@dataclass
class WasiSettings:
    """The module's arguments, environment variables and mounts. MisuseError if one of them is invalid."""

    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()

    def __post_init__(self) -> None:
        for text in (*self.args, *self.env, *self.env.values()):
            if "\0" in text:
                raise MisuseError(f"an argument or a variable of the environment contains a NUL: {cut(text)}")
            if not _is_unicode(text):
                raise MisuseError(f"{cut(text)} is not UTF-8, which is all that a module's arguments and environment may be")
        for mount in self.mounts:
            if "\0" in mount.guest or not _is_unicode(mount.guest):
                raise MisuseError(f"cannot mount anything at {cut(mount.guest)}: it is no UTF-8 without a NUL")
            if os.path.isdir(mount.host):
                continue
            if not os.path.isfile(mount.host):
                raise MisuseError(f"cannot mount {shown(str(mount.host))}: it is not a folder")
            if not mount.read_only:
                raise MisuseError(f"cannot mount {shown(str(mount.host))}: it is not a folder; a single file can only be mounted read-only "
                                  "(--mount HOST:GUEST:ro, Mount(..., read_only=True))")
            if not posixpath.normpath(mount.guest).strip("/"):
                raise MisuseError(f"cannot mount {shown(str(mount.host))} at {shown(mount.guest)}: a file needs a name there, "
                                  "such as /file")
            over = [other for other in self.mounts if other is not mount and PurePosixPath(mount.guest).is_relative_to(other.guest)]
            if over:
                raise MisuseError(f"cannot mount the file {shown(str(mount.host))} at {shown(mount.guest)}: "
                                  f"what is there is in {shown(str(over[0].host))}, mounted at {shown(over[0].guest)}")

    def local(self) -> wasmtime.WasiConfig:
        """wasmtime's configuration for the local calls of one thread's store."""
        config = wasmtime.WasiConfig()
        config.argv = list(self.args)
        config.env = list(self.env.items())
        return config

    def mount(self, table: DescriptorTable) -> Root:
        """Open the mounts in a descriptor table and, if nothing is mounted at "/", the virtual folders above them."""
        root, opened = Root(), [(PurePosixPath(mount.guest), self._opened(mount, table)) for mount in self.mounts]
        if any(not posixpath.normpath(guest).strip("/") for guest, _ in opened):
            return root
        for guest, leaf in sorted(opened, key=lambda one: len(one[0].parts)):  # an outer mount covers those inside it
            root.add(str(guest), leaf)
        root.add(posixpath.join("/", self.env.get("PWD", "")))  # the module's working directory
        table.add(root.view())  # added last: Go starts in the first preopened folder
        return root

    @staticmethod
    def _opened(mount: Mount, table: DescriptorTable) -> Descriptor | File:
        is_file = os.path.isfile(mount.host)
        folder, name = os.path.split(os.path.realpath(mount.host)) if is_file else (str(mount.host), "")
        try:
            fd = os.open(folder, (PLACE if is_file else os.O_RDONLY) | os.O_DIRECTORY)
        except OSError as error:
            raise MisuseError(f"cannot mount {shown(str(mount.host))} at {shown(mount.guest)}: {reason(error)}") from None
        if is_file:
            return File(Descriptor(fd, table.stop, writable=False, read_only=True), os.fsencode(name))
        descriptor = Descriptor(fd, table.stop, writable=False, read_only=mount.read_only, preopen=mount.guest.encode())
        table.add(descriptor)
        return descriptor


def _is_unicode(text: str) -> bool:
    """Whether the text can be encoded as UTF-8: a Python str may contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_of(kind: FuncType) -> wasmtime.FuncType:
    """Convert a function type to wasmtime's."""
    values = {0x7F: wasmtime.ValType.i32, 0x7E: wasmtime.ValType.i64, 0x7D: wasmtime.ValType.f32, 0x7C: wasmtime.ValType.f64}
    return wasmtime.FuncType([values[t]() for t in kind.params], [values[t]() for t in kind.results])


def letters(values: bytes, *, signed: bool = True) -> str:
    """Format letters for values of these WebAssembly types, as host functions take and return them (engine/ffi.py)."""
    of = {0x7F: "i", 0x7E: "q", 0x7D: "f", 0x7C: "d"} if signed else {0x7F: "I", 0x7E: "Q", 0x7D: "f", 0x7C: "d"}
    return "".join(of[value] for value in values)


def define_with_errno(functions: ffi.HostFunctions, module: str, name: str, kind: FuncType, implementation: Callable[..., None]) -> None:
    """Define a host function that returns a WASI errno, from one that takes unsigned numbers and may raise OSError.

    ModuleError if the module imports it with another type: arguments would be read, or a result written, out of place.
    """
    fits = len(kind.params) == len(inspect.signature(implementation).parameters) and not set(kind.params) - {_I32, _I64}
    if not fits or kind.results not in (b"", bytes([_I32])):
        raise ModuleError(f"the module imports {module}.{name} as {kind}, which is not its type")
    functions.define(module, name, type_of(kind),
                     params=letters(kind.params, signed=False), result=letters(kind.results),
                     implementation=_with_errno(f"{module}.{name}", implementation))


def _with_errno(name: str, implementation: Callable[..., None]) -> ffi.HostFunction:
    def run(*values: int) -> int:
        try:
            implementation(*values)
            return 0
        except MemoryAccessError:
            return _EFAULT
        except (OverflowError, struct.error):  # a number that is out of range for this system's calls
            return _EINVAL
        except OSError as error:
            return wasi_errno(error)
        except MemoryError:
            return _ENOMEM
        except _ENDS:
            raise
        except Exception as error:  # a bug in gothreads: this call fails with EIO, and the module runs on
            log.error("%s failed (the module gets EIO; please report it): %s", name, shown(f"{type(error).__name__}: {error}"),
                      exc_info=log.isEnabledFor(logging.DEBUG))
            return _EIO
    return run


def define_wasi(functions: ffi.HostFunctions, imports: Mapping[str, FuncType], calls: WasiCalls, *, own_clock: bool) -> None:
    """Replace those functions of wasmtime's WASI that all instances must share.

    `own_clock`: replace the clock too; otherwise monotonic time starts anew in each store. (Go's runtime allows for
    that, and needs the faster clock.) ModuleError if the module imports a function that WASI preview 1 does not have.
    """
    for name, kind in imports.items():
        if name in LOCAL and not (own_clock and name == "clock_time_get"):
            continue
        implementation = getattr(calls, name, None) if name.startswith(("fd_", "path_", "sock_", "poll_", "proc_", "clock_")) else None
        if implementation is None:
            raise ModuleError(f"the module imports {WASI}.{shown(name)}, which is not in WASI preview 1")
        define_with_errno(functions, WASI, name, kind, implementation)
