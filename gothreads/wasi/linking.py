"""Defines a module's WASI functions for its instances.

wasmtime's WASI belongs to a store, and each thread has its own store. So the functions are of two kinds:

    local    arguments, environment, clock, random numbers, yielding: each store's own WASI; no shared state
    shared   all others, over one process: wasi/calls/
"""

from __future__ import annotations

import errno
import inspect
import logging
import struct
from collections.abc import Callable, Collection, Mapping

from gothreads.engine import ffi
from gothreads.engine.function_types import letters, wasmtime_type
from gothreads.errors import AppClosed, MemoryAccessError, ModuleError
from gothreads.text import shown
from gothreads.wasi.calls.preview1 import LOCAL, WasiCalls
from gothreads.wasi.calls.proc import ExitRequested
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.streams import OutputExceeded
from gothreads.wasm.binary import FuncType
from gothreads.wasm.host_calls import WASI

log = logging.getLogger("gothreads")

_EFAULT, _EINVAL, _EIO, _ENOMEM = (wasi_errno(OSError(number, ""))
                                   for number in (errno.EFAULT, errno.EINVAL, errno.EIO, errno.ENOMEM))
#: Exceptions by which a call ends the module: the module exits, has written too much or has already ended, or a file
#: object that the program passed in raised.
_ENDS = (ExitRequested, OutputExceeded, AppClosed, ffi.Raised)
_I32, _I64 = 0x7F, 0x7E


def define_with_errno(functions: ffi.HostFunctions, module: str, name: str, kind: FuncType,
                      implementation: Callable[..., None]) -> None:
    """Define a host function that returns a WASI errno, from one that takes unsigned numbers and may raise OSError.

    ModuleError if the module imports it with another type: arguments would be read, or a result written, out of place.
    """
    fits = len(kind.params) == len(inspect.signature(implementation).parameters) and not set(kind.params) - {_I32, _I64}
    if not fits or kind.results not in (b"", bytes([_I32])):
        raise ModuleError(f"the module imports {module}.{name} as {kind}, which is not its type")
    functions.define(module, name, wasmtime_type(kind),
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
            log.error("%s failed (the module gets EIO; please report it): %s", name,
                      shown(f"{type(error).__name__}: {error}"),
                      exc_info=log.isEnabledFor(logging.DEBUG))
            return _EIO
    return run


def define_wasi(functions: ffi.HostFunctions, imports: Mapping[str, FuncType], calls: WasiCalls, *,
                own: Collection[str] = ()) -> None:
    """Replace those functions of wasmtime's WASI that all instances must share.

    own: which of LOCAL to replace, too. With wasmtime's clock, monotonic time starts anew in each store. (Go's runtime
    allows for that, and needs the faster clock.)

    ModuleError if the module imports a function that WASI preview 1 does not have.
    """
    for name, kind in imports.items():
        if name in LOCAL and name not in own:
            continue
        implementation = calls.function(name)
        if implementation is None:
            raise ModuleError(f"the module imports {WASI}.{shown(name)}, which is not in WASI preview 1")
        define_with_errno(functions, WASI, name, kind, implementation)
