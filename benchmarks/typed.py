"""What a call of a typed function costs: against JSON by hand, C structs by hand in native Go, and a native sum.

    python -m benchmarks.typed [--rounds 40] [--json]

Each round measures everything in turn. Times are the least of the rounds, in microseconds: of the calling thread's CPU,
on which the calls run; of the iterator by the clock, since Go works on another thread. The module is optimized.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

import gothreads
from benchmarks.command import run
from benchmarks.typed_native import CALLS, LARGE_CALLS, NUMBERS, Options, native_calls
from gothreads.build.toolchain import find_go

FOLDER = Path(__file__).parent / "typed_go"
ITEMS = 100_000


def native_sum() -> float:
    """The microseconds that native Go takes to sum the numbers."""
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run([str(find_go().go), "run", "./native"], cwd=FOLDER, env=environment, check=True,
                          capture_output=True, text=True)
    return int(done.stdout) / 1000


def measure(rounds: int) -> dict[str, float]:
    """The least microseconds of each subject, by name."""
    app: Any
    with gothreads.open(FOLDER, optimize=True) as app:
        options: dict[str, Any] = {"degree": 3, "rate": 0.5, "name": "abc", "robust": True, "count": 7}
        typed, plain = app.types.Options(**options), Options(**options)
        echo, nothing, total = app.echo, app.nothing, app.sum
        numbers = numpy.arange(float(NUMBERS))
        target = numpy.empty_like(numbers)

        def by_hand() -> Options:
            return Options(**json.loads(app.request("echo", json.dumps(plain.__dict__))))
        small: dict[str, Callable[[], object]] = {"struct": lambda: echo(typed), "nothing": lambda: nothing(),
                                                  "json": by_hand}
        def iterate() -> None:
            for _ in app.count(ITEMS):
                pass
        app.keep(numbers)
        large: dict[str, Callable[[], object]] = {
            "sum": lambda: total(numbers), "taken": lambda: app.first(numbers), "loop": app.sum_kept,
            "given": app.kept, "memcpy": lambda: numpy.copyto(target, numbers),
            "stored": lambda: app.store(numbers)}
        assert list(app.count(ITEMS)) == list(range(ITEMS))
        assert echo(typed) == typed
        assert by_hand() == plain
        assert total(numbers) == numbers.sum()
        best: dict[str, float] = {}
        for _ in range(rounds):
            for calls, subjects in ((CALLS, small), (LARGE_CALLS, large)):
                for name, call in subjects.items():
                    begin = time.thread_time()
                    for _ in range(calls):
                        call()
                    taken = (time.thread_time() - begin) / calls * 1e6
                    best[name] = min(best.get(name, taken), taken)
            total(numbers)  # takes new memory: `stored` has kept what it had
            begun = time.perf_counter()
            iterate()
            taken = (time.perf_counter() - begun) * 1e6
            best["items"] = min(best.get("items", taken), taken)
    natively = {f"native {name}": taken for name, taken in native_calls(rounds).items()}
    return best | natively | {"native": native_sum()}


def show(best: dict[str, float], _rounds: int) -> None:
    print(f"a struct of five fields in and out   {best['struct']:7.2f} µs    (target: at most 4)")
    print(f"… as JSON by hand                    {best['json']:7.2f} µs    the struct: "
          f"{best['struct'] / best['json']:.2f} of it (target: at most 0.33)")
    if (native := best.get("native struct")) is not None:
        print(f"… native Go: a C struct and ctypes   {native:7.2f} µs    the struct: "
              f"{best['struct'] / native:.2f} of it")
    print(f"a call without arguments             {best['nothing']:7.2f} µs")
    ideal = best["memcpy"] + best["native"]
    print(f"{NUMBERS:,} float64 in, a sum out   {best['sum']:7.0f} µs    {best['sum'] / ideal:.2f} of memcpy "
          f"({best['memcpy']:.0f}) and native Go ({best['native']:.0f}) (target: at most 1.3)")
    if (native := best.get("native sum")) is not None:
        print(f"… native Go, without a copy          {native:7.0f} µs")
    print(f"… the loop alone, in WebAssembly     {best['loop']:7.0f} µs    "
          f"{best['loop'] / best['native']:.2f} of native Go")
    for name, what in (("taken", "in, and no loop  "), ("stored", "in, and kept     "), ("given", "out              ")):
        print(f"{NUMBERS:,} float64 {what} {best[name]:7.0f} µs    {best[name] / best['memcpy']:.2f} of memcpy")
    print(f"an iterator of {ITEMS:,} items       {best['items']:7.0f} µs    {ITEMS / best['items'] * 1e6:,.0f} items/s "
          "(target: at least 300,000)")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=40))
