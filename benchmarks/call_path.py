"""What a call costs in each direction: in C, through ctypes, by wasmtime-py's own calls, and in native Go through
ctypes and cgo.

    python -m benchmarks.call_path [--rounds 9] [--json]

Each round measures all of them in turn, so that whatever else the machine does affects all alike; figures are medians
of the rounds, and of the rounds' ratios. Microseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any

import wasmtime

import gothreads
from benchmarks.command import run
from benchmarks.samples import compared, medians
from benchmarks.worker import Design, Measure, Worker, work
from gothreads.engine import extension
from gothreads.tools.compare.figures import median_ratio
from gothreads.tools.compare.native import NativePeer
from gothreads.tools.compare.programs import Programs, build_programs
from gothreads.tools.compare.rounds import interleaved

#: How often each function is called in a round.
TIMES = 20_000
#: How often Go calls Python in one call of the export.
HOST_TIMES = 2_000
SIZES = (64, 64 << 10)

#: The same functions as the Go program's, for wasmtime-py.
_WAT = """(module (import "env" "host" (func $host (param i64) (result i64)))
  (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
  (func (export "call_back") (param i64) (result i64) (local i64)
    (loop (local.set 1 (i64.add (local.get 1) (call $host (local.get 0))))
      (br_if 0 (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
    (local.get 1)))"""


def host(value: int) -> int:
    return value


def call_time(function: Callable[..., Any], *args: Any, times: int = TIMES) -> float:
    """Microseconds for each call."""
    function(*args)
    begin = time.perf_counter()
    for _ in range(times):
        function(*args)
    return (time.perf_counter() - begin) / times * 1e6


def gothreads_calls(programs: Programs) -> Measure:
    """gothreads, in C or through ctypes."""
    app = gothreads.open(programs.threaded, host={"env": {"host": host}})
    for handler in ("flip", "flip_lent"):  # touches memory that the kernel would otherwise provide while it is measured
        call_time(app.request, handler, b"x" * max(SIZES), times=TIMES // 5)

    def measure() -> dict[str, float]:
        figures = {}
        app.exports.add(1, 2)
        begin = time.perf_counter()
        for _ in range(TIMES):
            app.exports.add(1, 2)  # as people write it: call_time would leave out looking the export up
        figures["add"] = (time.perf_counter() - begin) / TIMES * 1e6
        figures["host"] = call_time(app.exports.call_back, HOST_TIMES, times=3) / HOST_TIMES
        for size in SIZES:
            figures[f"request {size}"] = call_time(app.request, "flip", b"x" * size)
            figures[f"lent {size}"] = call_time(app.request, "flip_lent", b"x" * size)
        return figures
    return measure


def wasmtime_py(_programs: Programs) -> Measure:
    store = wasmtime.Store()
    kind = wasmtime.FuncType([wasmtime.ValType.i64()], [wasmtime.ValType.i64()])
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, _WAT),
                                [wasmtime.Func(store, kind, host)]).exports(store)
    add, call_back = exports["add"], exports["call_back"]
    assert isinstance(add, wasmtime.Func)
    assert isinstance(call_back, wasmtime.Func)
    return lambda: {"add": call_time(add, store, 1, 2, times=TIMES // 10),
                    "host": call_time(call_back, store, HOST_TIMES, times=1) / HOST_TIMES}


def native(programs: Programs) -> Measure:
    assert programs.native is not None
    peer = NativePeer(programs.native, programs.exports, host)
    add, call_back = peer.function("add"), peer.function("call_back")
    return lambda: {"add": call_time(add, 1, 2), "host": call_time(call_back, HOST_TIMES, times=3) / HOST_TIMES}


def copies(_programs: Programs) -> Measure:
    """memcpy, there and back."""
    def measure() -> dict[str, float]:
        figures = {}
        for size in SIZES:
            source, target = (ctypes.c_char * size)(), (ctypes.c_char * size)()
            copy = call_time(ctypes.memmove, source, target, size) - call_time(ctypes.memmove, source, target, 0)
            figures[f"request {size}"] = figures[f"lent {size}"] = 2 * copy
        return figures
    return measure


DESIGNS: dict[str, Design] = {
    "C": gothreads_calls, "ctypes": gothreads_calls, "native": native, "wasmtime-py": wasmtime_py, "memcpy": copies}


def measure(rounds: int) -> dict[str, Any]:
    """Microseconds by design and call; and the ratios that the targets are set for."""
    programs = build_programs()
    names = [name for name in DESIGNS
             if not (name == "C" and extension.compiled is None) and not (name == "native" and programs.native is None)]
    with contextlib.ExitStack() as cleanup:
        workers = {name: cleanup.enter_context(
            Worker("benchmarks.call_path", name, programs, {"GOTHREADS_FAST": "0" if name == "ctypes" else "1"}))
                   for name in names}
        samples = interleaved({name: worker.measure for name, worker in workers.items()}, rounds)

    def ratio(name: str, one: str, other: str) -> float | None:
        return compared(samples, name, one, other) if one in samples and other in samples else None

    def against_copies(what: str) -> float | None:
        """As a multiple of three copies there and back, and 3 µs."""
        if "C" not in samples:
            return None
        return median_ratio((sample[what] for sample in samples["C"]),
                            (3 * sample[what] + 3 for sample in samples["memcpy"]))
    pairs = (("add", "C", "native"), ("add", "wasmtime-py", "C"), ("add", "wasmtime-py", "ctypes"),
             ("host", "wasmtime-py", "C"), ("host", "wasmtime-py", "ctypes"), ("host", "C", "native"))
    return {"microseconds": medians(samples),
            "ratios": {**{f"{name}: {one} / {other}": ratio(name, one, other) for name, one, other in pairs},
                       **{f"{what}: C / (3 memcpy + 3)": against_copies(what)
                          for what in ("request 65536", "lent 65536")}}}


def show(figures: dict[str, Any], rounds: int) -> None:
    columns = ["add", "host", *[f"{handler} {size}" for size in SIZES for handler in ("request", "lent")]]
    print(f"{'':12}" + "".join(f"{column:>15}" for column in columns) + f"   microseconds, medians of {rounds} rounds")
    for name, row in figures["microseconds"].items():
        print(f"{name:12}" + "".join(f"{row[column]:15.2f}" if column in row else f"{'–':>15}" for column in columns))
    for name, value in figures["ratios"].items():
        print(f"{name:28} {'not measured' if value is None else f'{value:.2f}'}")


if __name__ == "__main__":
    if not work(DESIGNS):
        sys.exit(run(__doc__, measure, show, rounds=9))
