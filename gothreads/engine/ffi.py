"""wasmtime's unchecked calls in both directions, in C (engine/extension.py) or through ctypes.

wasmtime-py's own calls look up types each time, and keep a host function's exception in a process-wide global, so that
it can surface in another thread (wasmtime-py#254). Here a call is one foreign call with a buffer of its own, and an
error stays with its call. Everything else (engines, modules, linkers, stores) is wasmtime-py's.

Thread rules: a `Function` belongs to a store, and only one thread at a time may use a store.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import wasmtime
from wasmtime import _bindings, _ffi
from wasmtime._extern import wrap_extern

from gothreads.engine import interrupt
from gothreads.engine.extension import compiled, shared
from gothreads.errors import InternalError, ModuleError
from gothreads.text import shown

Value = _bindings.wasmtime_val_raw
_VALUE_SIZE = shared("VALUE_SIZE", ctypes.sizeof(Value))
_UNKNOWN = ctypes.c_size_t(-1).value  # wasmtime's value for an unknown offset
#: What wasmtime puts before a trap's name; in a chain of causes, the cause's number as well.
_CAUSE = re.compile(r"^(?:\d+: )?(?:wasm trap: )?")

_dll = _ffi.dll


def address(pointer: Any) -> int:
    """The address in a ctypes pointer or function; 0 for a null pointer."""
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


_call_unchecked = _dll.wasmtime_func_call_unchecked
# The same function without argument types, so that ctypes converts nothing. It has its own prototype: wasmtime-py's
# stays as it is.
_call = ctypes.CFUNCTYPE(ctypes.c_void_p)(address(_call_unchecked))
_Callback = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_define = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p,
                           ctypes.c_size_t, ctypes.c_void_p,
                           ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
    address(_dll.wasmtime_linker_define_func_unchecked))
_export_get = _dll.wasmtime_instance_export_get
_EpochCallback = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64),
                                  ctypes.POINTER(ctypes.c_uint8))
_on_epoch = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
    address(_dll.wasmtime_store_epoch_deadline_callback))
_FUNC: int = _ffi.WASMTIME_EXTERN_FUNC.value


class TrapFrame(NamedTuple):
    """One frame of the stack at a trap, innermost first: the function's number, and offsets in its body and the module.

    They are those of the module that was compiled (engine/settings.py: as_compiled). -1: unknown.
    """

    name: str
    function: int
    within: int
    offset: int


@dataclass(frozen=True)
class Trap:
    """Why a call did not return. `exit_code` is set if the module called WASI's proc_exit."""

    message: str
    frames: tuple[TrapFrame, ...] = ()
    exit_code: int | None = None


class Trapped(Exception):
    """A call did not return. Internal: the app converts it to a public exception (errors.py)."""

    def __init__(self, trap: Trap) -> None:
        super().__init__(trap.message)
        self.trap = trap


class Raised(Exception):
    """An exception raised by one of the program's Python functions, which the module called under `name`."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(name, error)
        self.name, self.error = name, error


class Missing(ModuleError):
    """The module does not export a function that gothreads needs."""


# A letter names a value's type, as in module struct: i and I (32 bits, signed and unsigned), q and Q (64 bits), f and d
# (floats), and ? for a bool.
_CELLS: Mapping[str, Any] = {"i": ctypes.c_int32, "I": ctypes.c_uint32, "q": ctypes.c_int64, "Q": ctypes.c_uint64,
                             "f": ctypes.c_float, "d": ctypes.c_double, "?": ctypes.c_int32}
shared("VALUE_KINDS", "".join(_CELLS))


def _layout(letters: str) -> struct.Struct:
    """The layout of an array of raw values with these types."""
    return struct.Struct("<" + "".join(f"{letter}{_VALUE_SIZE - struct.calcsize(letter)}x"
                                       for letter in letters.replace("?", "i")))


#: Calls one exported function of one instance: takes raw values (only their bits matter, not their sign) and returns
#: the result. Raises Trapped.
Function = Callable[..., Any]


class _Function:
    """A Function through ctypes, with a buffer for its arguments and result."""

    __slots__ = ("_arguments", "_buffer", "_cells", "_func", "_is_bool", "_pack", "_result", "_trap", "_values")

    def __init__(self, context: int, func: Any, params: str, result: str) -> None:
        count = max(len(params), 1)
        self._values = (Value * count)()
        self._cells = [_CELLS[letter].from_buffer(self._values, _VALUE_SIZE * place)
                       for place, letter in enumerate(params)]
        self._buffer, self._pack = memoryview(self._values).cast("B"), _layout(params).pack_into
        self._result, self._is_bool = _CELLS[result].from_buffer(self._values) if result else None, result == "?"
        self._func = func
        self._trap = ctypes.c_void_p()
        self._arguments = (ctypes.c_void_p(context), ctypes.byref(func), ctypes.byref(self._values),
                           ctypes.c_size_t(count), ctypes.byref(self._trap))

    def __call__(self, *raw: Any) -> Any:
        try:
            self._pack(self._buffer, 0, *raw)
        except struct.error:  # a number out of the type's range, such as one of the other sign
            for cell, value in zip(self._cells, raw, strict=True):
                cell.value = value
        error = _call(*self._arguments)
        if error or self._trap.value:
            trap, self._trap.value = self._trap.value, None
            raise trapped(error, trap)
        if self._result is None:
            return None
        return self._result.value if not self._is_bool else self._result.value != 0


def trapped(error: int | None, trap: int | None) -> Trapped:
    """Make a Trapped from the error or trap that wasmtime returned, and free it."""
    try:
        described = _describe(error, trap)
    except Exception as failed:  # out of memory, for example. In any case the instance cannot be used any more
        described = Trap(f"it has trapped, and what it says cannot be read: {type(failed).__name__}")
    return Trapped(described)


def function(store: wasmtime.Store, instance: wasmtime.Instance, name: str, params: str, result: str) -> Function:
    """Look up an exported function by name. `params` and `result` have a letter for each value; "" for no result.

    Raises Missing when there is no such export, and ModuleError when it is not a function. Its type is not checked here
    or later: with other values, or with references, the engine would write past the buffer or take a number for an
    address. wasm/abi.py has already checked every export that can be asked for.
    """
    extern = _export(store, instance, name)
    if extern is None:
        raise Missing(f"the module does not export {shown(name)}, which gothreads needs. Build it with: "
                      f"gothreads build")
    if int(extern.kind) != _FUNC:
        raise ModuleError(f"the module's export {shown(name)} is not a function")
    func = _ffi.wasmtime_func_t()
    ctypes.memmove(ctypes.byref(func), ctypes.byref(extern.of.func), ctypes.sizeof(func))
    context = address(store._context())
    if compiled is not None:
        found: Function = compiled.Function(context, bytes(func), params, result)
        return found
    return _Function(context, func, params, result)


def memory(store: wasmtime.Store, instance: wasmtime.Instance) -> wasmtime.Memory | None:
    """The memory exported as "memory", if there is one.

    (wasmtime-py's `instance.exports` looks up all exports, and the time for each is proportional to their number.)
    """
    extern = _export(store, instance, "memory")
    found = None if extern is None else wrap_extern(extern)
    return found if isinstance(found, wasmtime.Memory) else None


def _export(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> Any:
    extern = _ffi.wasmtime_extern_t()
    encoded = name.encode()
    found = _export_get(store._context(), ctypes.byref(instance._instance), encoded, len(encoded), ctypes.byref(extern))
    return extern if found else None


def run_on_until(store: wasmtime.Store, ended: Callable[[], bool]) -> object:
    """When the engine's epoch moves, code in this store traps if `ended()` is true, and otherwise continues.

    On the main thread, signal handlers run at that moment. `ended` is called in the thread that is in the store, and
    must not raise. The returned object must live as long as the store.
    """
    if compiled is not None:
        _on_epoch(address(store.ptr()), compiled.get_epoch_moved(), id(ended), None)
        return ended
    def moved(_context: int, _data: int, delta: Any, kind: Any) -> int:
        if ended():
            return address(_ffi.wasmtime_error_new(ctypes.create_string_buffer(b"interrupted")))
        delta[0], kind[0] = 1, 0  # the new deadline is the epoch's next move; continue
        return 0
    callback = _EpochCallback(moved)
    _on_epoch(address(store.ptr()), address(callback), None, None)
    return callback


#: A host function takes raw values and returns one, or None.
HostFunction = Callable[..., Any]


class HostFunctions:
    """Defines host functions in a linker, and keeps them alive while the linker is in use.

    failed: called with the exception of a host function, in that function's thread; returns the message of the trap
    that ends the call.
    """

    def __init__(self, linker: wasmtime.Linker, failed: Callable[[BaseException], str]) -> None:
        self._linker, self._failed = linker, failed
        self._kept: list[Any] = []
        self._defined: dict[tuple[str, str], tuple[wasmtime.FuncType, int]] = {}  # type, place in _kept

    def define(self, module: str, name: str, kind: wasmtime.FuncType, *, params: str, result: str,
               implementation: HostFunction, own: bool = True) -> None:
        """Define a host function. InternalError if the linker refuses it.

        params, result: letters for the values that the implementation takes, and for its result.
        own: the implementation is gothreads' code, not the program's.
        """
        linker, of = address(self._linker.ptr()), address(kind.ptr())
        self._defined[module, name] = kind, len(self._kept)
        if compiled is not None:
            kept, error = compiled.define(linker, module, name, of, params, result, implementation, self._failed, own)
        else:
            kept = self._callback(params, result, implementation if own else interrupt.as_program(implementation))
            error = _define(linker, module.encode(), len(module.encode()), name.encode(), len(name.encode()), of,
                            address(kept), None, None)
        self._keep(module, name, kept, error)

    def define_clock(self, module: str, name: str, kind: wasmtime.FuncType, memory: tuple[int, int]) -> None:
        """Define WASI's clock_time_get in C, so that all instances share the host's clock. Needs the C extension.

        memory: `pointers` of the SharedMemory.
        """
        linker, of = address(self._linker.ptr()), address(kind.ptr())
        self._keep(module, name, *compiled.define_clock(linker, module, name, of, *memory))

    def replace(self, module: str, name: str, table: Any) -> None:
        """Let an IoTable (csrc/io_table.c) serve a function that is defined, if it is; it may call that one."""
        if (defined := self._defined.get((module, name))) is not None:
            kind, place = defined
            linker, of = address(self._linker.ptr()), address(kind.ptr())
            self._keep(module, name, *table.define(linker, module, name, of, self._kept[place]))

    def _keep(self, module: str, name: str, kept: object, error: int | None) -> None:
        self._kept.append(kept)
        if error:
            raise InternalError(f"cannot define {module}.{name}: {_describe(error, None).message}")

    def _callback(self, params: str, result: str, implementation: HostFunction) -> Any:
        failed = self._failed
        arguments = _layout(params)
        size, unpack, copy = arguments.size, arguments.unpack, ctypes.string_at
        cell = _CELLS[result].from_address if result else None

        def run(_environment: int, _caller: int, values: int, _count: int) -> int:
            try:
                answer = implementation(*unpack(copy(values, size)))
                if cell is not None:
                    cell(values).value = answer
                return 0
            except BaseException as error:  # no exception may propagate into wasmtime
                try:
                    message = failed(error)
                except BaseException:
                    message = type(error).__name__
                return _new_trap(message)

        return _Callback(run)

    def clear(self) -> None:
        """Free the functions. No instance may call them any more."""
        self._kept.clear()
        self._defined.clear()


def _new_trap(message: str) -> int:
    encoded = message.encode(errors="replace")
    pointer = _ffi.wasmtime_trap_new(ctypes.create_string_buffer(encoded), len(encoded))
    return address(pointer)


def _describe(error: int | None, trap: int | None) -> Trap:
    """Describe the error or trap that wasmtime returned, and free it."""
    if error:
        pointer = ctypes.cast(error, ctypes.POINTER(_ffi.wasmtime_error_t))
        return trap_of(wasmtime.WasmtimeError._from_ptr(pointer))
    return trap_of(wasmtime.Trap._from_ptr(ctypes.cast(trap or 0, ctypes.POINTER(_ffi.wasm_trap_t))))


def trap_of(raised: wasmtime.WasmtimeError | wasmtime.Trap) -> Trap:
    """Make a Trap from one of wasmtime-py's exceptions, and free the latter."""
    try:
        if isinstance(raised, wasmtime.ExitTrap):
            return Trap(f"exit {raised.code}", exit_code=raised.code)
        if isinstance(raised, wasmtime.WasmtimeError):
            return Trap(str(raised))
        frames = tuple(TrapFrame(frame.func_name or f"function {frame.func_index}", frame.func_index,
                                 *(-1 if offset == _UNKNOWN else offset
                                   for offset in (frame.func_offset, frame.module_offset)))
                       for frame in raised.frames)
        message = raised.message.strip().splitlines()[-1] if raised.message.strip() else "trap"
        return Trap(_CAUSE.sub("", message.strip()), frames)
    finally:
        raised.close()


if compiled is not None:
    compiled.bind(tuple(address(getattr(_dll, name)) for name in (
        "wasmtime_func_call_unchecked", "wasmtime_linker_define_func_unchecked", "wasmtime_trap_new",
        "wasmtime_sharedmemory_data_size")),
        Trapped, trapped, sys._getframe)
    compiled.bind_error_new(address(_dll.wasmtime_error_new))
