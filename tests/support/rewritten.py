"""A module with threads, rewritten as when it is loaded: one instance of it, without an app."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import wasmtime

from gothreads.engine.settings import StopCheck, new_engine
from gothreads.shared_memory import SharedMemory
from gothreads.wasm.parsing import parse
from gothreads.wasm.passes import waits
from gothreads.wasm.passes.stops import add_stop_checks
from gothreads.wasm.passes.waits import FIRST_NOTE, NOTE_SIZE, rewrite_waits
from tests.support.waiting import PATIENCE, wait_until

NOTE = FIRST_NOTE + 3 * NOTE_SIZE


class Machine:
    """One instance of a rewritten module, which imports env.memory, with its note at NOTE."""

    def __init__(self, wasm: bytes, stop_check: StopCheck = StopCheck.EPOCH) -> None:
        self.engine = new_engine(6 << 20, stop_check=stop_check)
        self.memory = SharedMemory(self.engine, 1, 2)
        self.notes = SharedMemory(self.engine, waits.NOTES_PAGES, waits.NOTES_PAGES)
        self.store = wasmtime.Store(self.engine)
        self.store.set_epoch_deadline(1)
        linker = wasmtime.Linker(self.engine)
        linker.define(self.store, "env", "memory", self.memory.handle)
        linker.define(self.store, *waits.NOTES, self.notes.handle)
        rewritten = rewrite_waits(parse(wasm))
        if stop_check is StopCheck.FLAG:
            rewritten = add_stop_checks(rewritten)
        module = wasmtime.Module(self.engine, rewritten.encode())
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        self.call(waits.SETUP, NOTE)

    def call(self, name: str, *args: int) -> Any:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *args)

    @contextmanager
    def calling(self, name: str, *args: int) -> Iterator[list[Any]]:
        """A call on its own thread. Afterwards the list has its result, or its error."""
        result: list[Any] = []

        def run() -> None:
            try:
                result.append(self.call(name, *args))
            except wasmtime.Trap as trap:
                result.append(str(trap))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield result
        thread.join(PATIENCE)
        assert result

    @contextmanager
    def parked(self, name: str, *args: int) -> Iterator[list[Any]]:
        """As `calling`, once the thread is parked."""
        with self.calling(name, *args) as result:
            wait_until(lambda: self.notes.load_u32(NOTE))
            yield result

    def stop(self) -> None:
        self.notes.store_u32(waits.STOP_FLAG, 1)
        self.engine.increment_epoch()
