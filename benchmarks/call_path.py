"""What a call costs, in both directions: in C, through ctypes, by wasmtime-py's own calls, and native Go through ctypes and cgo.

    python -m benchmarks.call_path [--rounds 9] [--json]

Each round measures all of them, one after the other, so that what else the machine does falls on all alike; the figures are the medians of
the rounds, and of the rounds' ratios. Microseconds.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import wasmtime

import gothreads
from benchmarks.command import ratio, run
from benchmarks.worker import Design, Measure, Worker, work
from gothreads.engine import extension
from gothreads.tools.compare.native import NativePeer
from gothreads.tools.compare.programs import Programs, build_programs

#: How often each is called in a round.
TIMES = 20_000
#: How often Go calls Python, in one call of the export.
HOST_TIMES = 2_000
SIZES = (64, 64 << 10)

#: The same as the Go program's, for wasmtime-py.
_WAT = """(module (import "env" "host" (func $host (param i64) (result i64)))
  (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
  (func (export "call_back") (param i64) (result i64) (local i64)
    (loop (local.set 1 (i64.add (local.get 1) (call $host (local.get 0))))
      (br_if 0 (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
    (local.get 1)))"""


def host(value: int) -> int:
    return value


def each(function: Callable[..., Any], *args: Any, times: int = TIMES) -> float:
    """Microseconds."""
    function(*args)
    begin = time.perf_counter()
    for _ in range(times):
        function(*args)
    return (time.perf_counter() - begin) / times * 1e6


def ours(programs: Programs) -> Measure:
    """gothreads: in C, or through ctypes."""
    app = gothreads.open(programs.threaded, host={"env": {"host": host}})
    for handler in ("flip", "flip_lent"):  # memory that was never touched comes from the system, page by page
        each(app.request, handler, b"x" * max(SIZES), times=TIMES // 5)

    def measure() -> dict[str, float]:
        found = {}
        app.exports.add(1, 2)
        begin = time.perf_counter()
        for _ in range(TIMES):
            app.exports.add(1, 2)
        found["add"] = (time.perf_counter() - begin) / TIMES * 1e6
        found["host"] = each(app.exports.call_back, HOST_TIMES, times=3) / HOST_TIMES
        for size in SIZES:
            found[f"request {size}"] = each(app.request, "flip", b"x" * size)
            found[f"lent {size}"] = each(app.request, "flip_lent", b"x" * size)
        return found
    return measure


def wasmtime_py(_programs: Programs) -> Measure:
    store = wasmtime.Store()
    kind = wasmtime.FuncType([wasmtime.ValType.i64()], [wasmtime.ValType.i64()])
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, _WAT), [wasmtime.Func(store, kind, host)]).exports(store)
    add, call_back = exports["add"], exports["call_back"]
    assert isinstance(add, wasmtime.Func)
    assert isinstance(call_back, wasmtime.Func)
    return lambda: {"add": each(add, store, 1, 2, times=TIMES // 10), "host": each(call_back, store, HOST_TIMES, times=1) / HOST_TIMES}


def native(programs: Programs) -> Measure:
    assert programs.native is not None
    peer = NativePeer(programs.native, programs.exports, host)
    add, call_back = peer.function("add"), peer.function("call_back")
    return lambda: {"add": each(add, 1, 2), "host": each(call_back, HOST_TIMES, times=3) / HOST_TIMES}


def copies(_programs: Programs) -> Measure:
    """memcpy there and back."""
    def measure() -> dict[str, float]:
        found = {}
        for size in SIZES:
            there, back = (ctypes.c_char * size)(), (ctypes.c_char * size)()
            found[f"request {size}"] = found[f"lent {size}"] = 2 * (each(ctypes.memmove, there, back, size) - each(ctypes.memmove, there, back, 0))
        return found
    return measure


DESIGNS: dict[str, Design] = {
    "C": ours, "ctypes": ours, "native": native, "wasmtime-py": wasmtime_py, "memcpy": copies}


def measure(rounds: int) -> dict[str, Any]:
    """By design: microseconds by what is called. And the ratios that the bars are of."""
    programs = build_programs()
    workers = {name: Worker("benchmarks.call_path", name, programs, {"GOTHREADS_FAST": "0" if name == "ctypes" else "1"}) for name in DESIGNS
               if not (name == "C" and extension.compiled is None) and not (name == "native" and programs.native is None)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            found[name].append(worker.measure())
    for worker in workers.values():
        worker.close()

    def of(one: str, other: str, what: str) -> float | None:
        if one not in found or other not in found:
            return None
        return ratio((sample[what] for sample in found[one]), (sample[what] for sample in found[other]))

    def over(what: str) -> float | None:
        """In times of three copies there and back and 3 µs."""
        if "C" not in found:
            return None
        return ratio((sample[what] for sample in found["C"]), (3 * sample[what] + 3 for sample in found["memcpy"]))
    return {"microseconds": {name: {what: statistics.median(one[what] for one in samples) for what in samples[0]} for name, samples in found.items()},
            "ratios": {"add: C / native": of("C", "native", "add"), "add: wasmtime-py / C": of("wasmtime-py", "C", "add"),
                       "add: wasmtime-py / ctypes": of("wasmtime-py", "ctypes", "add"), "host: wasmtime-py / C": of("wasmtime-py", "C", "host"),
                       "host: wasmtime-py / ctypes": of("wasmtime-py", "ctypes", "host"), "host: C / native": of("C", "native", "host"),
                       **{f"{what}: C / (3 memcpy + 3)": over(what) for what in ("request 65536", "lent 65536")}}}


def show(found: dict[str, Any], rounds: int) -> None:
    columns = ["add", "host", *[f"{handler} {size}" for size in SIZES for handler in ("request", "lent")]]
    print(f"{'':12}" + "".join(f"{column:>15}" for column in columns) + f"   microseconds, medians of {rounds} rounds")
    for name, figures in found["microseconds"].items():
        print(f"{name:12}" + "".join(f"{figures[column]:15.2f}" if column in figures else f"{'–':>15}" for column in columns))
    for name, value in found["ratios"].items():
        print(f"{name:28} {'not measured' if value is None else f'{value:.2f}'}")


if __name__ == "__main__":
    if not work(DESIGNS):
        sys.exit(run(__doc__, measure, show, rounds=9))
