"""The calls of benchmarks/typed.py in native Go, by hand: a C library, with C structs, through ctypes.

In a process of its own, since native Go takes over signals that wasmtime needs:

    python -m benchmarks.typed_native LIBRARY ROUNDS
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy

from gothreads.build.toolchain import find_go
from gothreads.errors import BuildError
from gothreads.tools.compare.programs import build_native

FOLDER = Path(__file__).parent / "typed_native_go"
NUMBERS = 1_000_000
CALLS, LARGE_CALLS = 2000, 3


@dataclass
class Options:
    """As in Go, for what is done by hand."""

    degree: int
    rate: float
    name: str
    robust: bool
    count: int


class _Options(ctypes.Structure):
    _fields_ = (("degree", ctypes.c_int64), ("rate", ctypes.c_double), ("name", ctypes.c_void_p),
                ("robust", ctypes.c_bool), ("count", ctypes.c_int64))


def native_calls(rounds: int) -> dict[str, float]:
    """The least microseconds of `struct` and `sum`; none if there is no C compiler."""
    try:
        library = build_native(find_go(), FOLDER)
    except BuildError:
        return {}
    done = subprocess.run([sys.executable, "-m", "benchmarks.typed_native", str(library), str(rounds)], check=True,
                          capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _measure(library: ctypes.CDLL, rounds: int) -> dict[str, float]:
    library.sum_c.restype = ctypes.c_double
    library.sum_c.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    library.free_c.argtypes = (ctypes.c_void_p,)
    plain, numbers = Options(3, 0.5, "abc", robust=True, count=7), numpy.arange(float(NUMBERS))

    def echo() -> Options:
        name = ctypes.create_string_buffer(plain.name.encode())
        sent = _Options(plain.degree, plain.rate, ctypes.addressof(name), plain.robust, plain.count)
        got = _Options()
        library.echo_c(ctypes.byref(sent), ctypes.byref(got))
        back = Options(got.degree, got.rate, ctypes.string_at(got.name).decode(), got.robust, got.count)
        library.free_c(got.name)
        return back
    assert echo() == plain

    def total() -> float:
        found: float = library.sum_c(numbers.ctypes.data, NUMBERS)
        return found
    assert total() == numbers.sum()
    subjects: dict[str, tuple[Callable[[], object], int]] = {"struct": (echo, CALLS), "sum": (total, LARGE_CALLS)}
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, (call, calls) in subjects.items():
            begin = time.thread_time()
            for _ in range(calls):
                call()
            best[name] = min(best.get(name, 1e9), (time.thread_time() - begin) / calls * 1e6)
    return best


if __name__ == "__main__":
    json.dump(_measure(ctypes.CDLL(sys.argv[1]), int(sys.argv[2])), sys.stdout)
