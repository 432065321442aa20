"""A module's instances over one shared memory: each has a store, an instance, and a note of where its thread is parked.

An instance is used by one thread at a time. Thread identity means nothing to WebAssembly: the state in an instance
(Go's registers) stays with it when another thread takes it over.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import wasmtime

from gothreads.engine import ffi
from gothreads.engine.settings import needs_fence, new_store
from gothreads.errors import GothreadsError
from gothreads.shared_memory import SharedMemory
from gothreads.wasm.binary import PAGE
from gothreads.wasm.passes import waits

#: How often a store's clock is compared with the host's: until the tightest reading, which is the one that counts, has
#: an uncertainty of less than a microsecond.
_LEAST_READINGS, _MOST_READINGS, _TIGHT_NS = 4, 32, 2000


#: Passed in place of a store's clock offset when one clock serves all stores (runtime/threads_gothreads.go).
_ONE_CLOCK = -(1 << 63)


class Notes:
    """The notes: in a memory of the host's own, each instance's thread notes the address that it waits at.

    With them, threads that nothing else can wake are woken one by one (wasm/passes/waits.py). May be used from any
    thread.
    """

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._memory = SharedMemory(engine, waits.NOTES_PAGES, waits.NOTES_PAGES)
        self._lock = threading.Lock()
        # Guarded by _lock. `_free`: words that were used before; `_next`: the first word never used.
        self._free: list[int] = []
        self._next = waits.FIRST_NOTE

    def define(self, linker: wasmtime.Linker, store: wasmtime.Store) -> None:
        """Define the memory in a linker, for modules whose waits were rewritten."""
        linker.define(store, *waits.NOTES, self._memory.handle)

    def stop(self) -> None:
        """From now on, a thread that is about to wait, or is woken from a wait, spins until its code is ended.

        Code with checks of the stop flag (wasm/passes/stops.py) ends at the next one.
        """
        self._memory.store_u32(waits.STOP_FLAG, 1)

    def close(self) -> None:
        """Free the memory. No instance may be left."""
        self._memory.close()

    def take(self) -> int:
        """Reserve a word and return its address. GothreadsError when none is left."""
        with self._lock:
            if self._free:
                word = self._free.pop()
            elif self._next + waits.NOTE_SIZE <= waits.NOTES_PAGES * PAGE:
                word = self._next
                self._next += waits.NOTE_SIZE
            else:
                raise GothreadsError(f"no more than {waits.MOST_NOTES:,} threads and callers can be in one module")
        self._memory.store_u32(word, 0)
        return word

    def give(self, word: int) -> None:
        with self._lock:
            self._free.append(word)

    def addresses(self) -> set[int]:
        """The addresses that threads wait at now: multiples of 4 (the two low bits of a note are flags)."""
        with self._lock:
            end = self._next
        return {noted & ~3 for word in range(waits.FIRST_NOTE, end, waits.NOTE_SIZE)
                if (noted := self._memory.load_u32(word))}


class NotInstantiated(ffi.Trapped):
    """The instance cannot be made. (A trap in its start code or data initialisation is an ordinary Trapped.)"""


class Instance:
    """An instance, made by Instances. `note` is the address of its note."""

    def __init__(self, store: wasmtime.Store, instance: wasmtime.Instance, note: int, on_epoch: object) -> None:
        self.store, self._instance, self.note, self._on_epoch = store, instance, note, on_epoch

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function:
        """An exported function; types and errors as for ffi.function."""
        return ffi.function(self.store, self._instance, name, params, result)


class Instances(ABC):
    """Makes instances of one module that share one memory. May be used from any thread."""

    def __init__(self, engine: wasmtime.Engine, pre: wasmtime.InstancePre, notes: Notes,
                 wasi: Callable[[], wasmtime.WasiConfig], stopping: Callable[[], bool]) -> None:
        self._engine, self._pre, self._notes, self._wasi, self._stopping = engine, pre, notes, wasi, stopping
        self._lock = threading.Lock()
        self._open: set[Instance] = set()  # guarded by _lock

    @abstractmethod
    def _prepare(self, instance: Instance) -> None:
        """Prepare a new instance, which has its note and has not run yet. Raises ffi.Trapped."""

    def new(self) -> Instance:
        """Make an instance. GothreadsError when no note is left for it; ffi.Trapped once the app is stopping."""
        # After `stopping` becomes true the epoch moves, and code in any store then asks `stopping` whether to go on.
        # So code in a store made before that is stopped, and a store made after it is caught by the check below.
        store = new_store(self._engine)
        on_epoch = ffi.run_on_until(store, self._stopping)
        if self._stopping():
            store.close()
            raise ffi.Trapped(ffi.Trap("the app is stopping"))
        store.set_wasi(self._wasi())
        note = self._notes.take()
        try:
            instance = Instance(store, self._instantiate(store), note, on_epoch)
            instance.function(waits.SETUP, "I")(note)
            self._prepare(instance)
        except BaseException:
            self._notes.give(note)
            store.close()
            raise
        with self._lock:
            self._open.add(instance)
        return instance

    def _instantiate(self, store: wasmtime.Store) -> wasmtime.Instance:
        try:
            return self._pre.instantiate(store)
        except (wasmtime.Trap, wasmtime.ExitTrap) as error:  # in its start function, or its data lie outside the memory
            raise ffi.Trapped(ffi.trap_of(error)) from None
        except wasmtime.WasmtimeError as error:
            raise NotInstantiated(ffi.Trap(str(error).splitlines()[-1].strip())) from None

    def close(self, instance: Instance) -> None:
        """Free an instance that no thread is in, unless close_all has freed it."""
        with self._lock:
            # The thread that removes it from _open frees it: close may race with close_all at the end of the app.
            if instance not in self._open:
                return
            self._open.discard(instance)
        instance.store.close()
        self._notes.give(instance.note)

    def close_all(self) -> None:
        """Free the remaining instances. No thread may be in any of them."""
        with self._lock:
            left, self._open = self._open, set()
        for instance in left:
            instance.store.close()


class GoInstances(Instances):
    """Instances of a module that gothreads has built."""

    def __init__(self, engine: wasmtime.Engine, pre: wasmtime.InstancePre, notes: Notes,
                 wasi: Callable[[], wasmtime.WasiConfig], stopping: Callable[[], bool], *, one_clock: bool) -> None:
        """one_clock: the module's monotonic clock is the host's, and not a separate one in each store."""
        super().__init__(engine, pre, notes, wasi, stopping)
        self._one_clock = one_clock
        self._reading_clock = threading.Lock()

    def _prepare(self, instance: Instance) -> None:
        instance.function("gt_setup", "qi")(_ONE_CLOCK if self._one_clock else self._clock_offset(instance),
                                            needs_fence())

    def _clock_offset(self, instance: Instance) -> int:
        """The host's monotonic clock minus this store's, in nanoseconds. (A store's starts when the store is made.)"""
        read = instance.function("gt_read_clock", "", "q")
        best = (1 << 62, 0)
        with self._reading_clock:  # all instances read their clock through the same word of memory
            for reading in range(_MOST_READINGS):
                before = time.monotonic_ns()
                clock = read()
                after = time.monotonic_ns()
                best = min(best, (after - before, (before + after) // 2 - clock))
                if reading >= _LEAST_READINGS and best[0] < _TIGHT_NS:
                    break
        return best[1]
