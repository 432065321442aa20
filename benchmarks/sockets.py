"""Datagrams and dials: the processor time of a program (benchmarks/sockets) that answers datagrams, as a DNS server
does, and of one that dials again and again, as a proxy does. Natively, on threads, and on threads without C.

    python -m benchmarks.sockets [--rounds 3] [--datagrams 100000] [--dials 20000] [--json]

Each round runs all in turn. Processor time is the whole process's, in user and system mode, from when the program is
ready until it is done: its start is not in the figures. The other side is native, and not in them either.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.command import run
from benchmarks.samples import relative
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.tools.compare.rounds import interleaved

PROGRAM = Path(__file__).parent / "sockets"
Design = tuple[Sequence[str], Mapping[str, str]]


def designs(folder: Path) -> dict[str, Design]:
    """How to run the program under each design, and the environment."""
    native = folder / "native"
    subprocess.run([find_go().go, "build", "-o", native, "."], cwd=PROGRAM, check=True,
                   env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
    module = build(Request(str(PROGRAM), buildmode="exe")).path
    threaded = [sys.executable, "-m", "gothreads", "run", "--allow-net", "127.0.0.1:*", str(module)]
    return {"native": ([str(native)], {}), "threaded": (threaded, {}), "without C": (threaded, {"GOTHREADS_FAST": "0"})}


@contextmanager
def running(design: Design, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The program, once it is ready."""
    command, environment = design
    with subprocess.Popen([*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=os.environ | environment) as process:
        try:
            expect(process, "ready")
            yield process
        finally:
            process.kill()


def expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    if (found := process.stdout.readline()) != f"{line}\n":
        raise RuntimeError(f"the program ended, or said {found!r} in place of {line!r}")


def used(process: subprocess.Popen[str]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def free_address(kind: socket.SocketKind) -> str:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def answers(design: Design, native: Design, count: int) -> float:
    """Microseconds for each that was answered."""
    address = free_address(socket.SOCK_DGRAM)
    with running(design, "answer", address) as server:
        before = used(server)
        subprocess.run([*native[0], "ask", address, str(count)], check=True)
        return (used(server) - before) / count * 1e6


def connects(design: Design, native: Design, count: int) -> float:
    """Microseconds for each."""
    address = free_address(socket.SOCK_STREAM)
    with running(native, "accept", address), running(design, "dial", address, count) as client:
        before = used(client)
        expect(client, "done")
        return (used(client) - before) / count * 1e6


def measure(rounds: int, datagrams: int, dials: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        known = designs(Path(name))
        return {what: figures(known, job, count, rounds)
                for what, job, count in (("a datagram answered", answers, datagrams), ("a dial", connects, dials))}


def figures(known: dict[str, Design], job: Any, count: int, rounds: int) -> dict[str, dict[str, float]]:
    native = known["native"]
    taken = interleaved({name: functools.partial(job, design, native, count) for name, design in known.items()}, rounds)
    return relative(taken, "microseconds", "native")


def show(found: dict[str, Any], rounds: int) -> None:
    for what, rows in found.items():
        for name, row in rows.items():
            print(f"{what:20} {name:10} {row['microseconds']:8.1f} µs   {row['ratio']:.2f} of native "
                  f"(medians of {rounds} rounds)")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, datagrams=100_000, dials=20_000))
