"""Connections that do nothing: what ten thousand of them, after one request each, cost a net/http server
(examples/httpd) natively and on threads: memory for each, and processor time while all are idle.

    python -m benchmarks.idle_connections [--rounds 1] [--connections 10000] [--seconds 10] [--json]

The limit on descriptors (ulimit -n) must allow so many, and an eighth more, in this process and in the server's.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.command import run
from benchmarks.httpd import EXAMPLE, PATIENCE, free_address, request
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go

ASK = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def commands(folder: Path) -> dict[str, list[str]]:
    native = folder / "httpd"
    subprocess.run([find_go().go, "build", "-o", native, "."], cwd=EXAMPLE, check=True,
                   env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
    module = build(Request(str(EXAMPLE), model="threaded", buildmode="exe")).path
    return {"native": [str(native), "-addr", "{address}"],
            "threaded": [sys.executable, "-m", "gothreads", "run", "--listen", "{address}", str(module), "-addr",
                         "{address}"]}


def answered(connection: socket.socket) -> None:
    connection.sendall(ASK)
    if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
        raise SystemExit("the server has not answered")


def once(command: Sequence[str], connections: int, seconds: int) -> dict[str, float]:
    """Bytes of resident memory for each connection, and the share of a processor while all are idle."""
    address = free_address()
    host, port = address.split(":")
    with contextlib.ExitStack() as kept:
        process = subprocess.Popen([word.format(address=address) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kept.callback(process.wait)
        kept.callback(process.kill)
        server, deadline = psutil.Process(process.pid), time.monotonic() + PATIENCE
        while True:
            try:
                request(address, "GET", "/")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the server does not serve") from None
                time.sleep(0.05)
        before = server.memory_info().rss
        for _ in range(connections):
            connection = kept.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE))
            answered(connection)
        memory = (server.memory_info().rss - before) / connections
        time.sleep(2)  # the runtime's own work after a load
        used, begin = sum(server.cpu_times()[:2]), time.monotonic()
        time.sleep(seconds)
        return {"bytes": memory, "processor": (sum(server.cpu_times()[:2]) - used) / (time.monotonic() - begin)}


def measure(rounds: int, connections: int, seconds: int) -> dict[str, Any]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < connections * 8 // 7 + 100:
        raise SystemExit(f"ulimit -n is {soft:,}, which is not enough for {connections:,} connections")
    with tempfile.TemporaryDirectory() as folder:
        designs = commands(Path(folder))
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in designs}
        for _ in range(rounds):
            for name, command in designs.items():
                samples[name].append(once(command, connections, seconds))
    figures: dict[str, Any] = {name: {what: statistics.median(one[what] for one in taken) for what in taken[0]}
                               for name, taken in samples.items()}
    figures["beyond native"] = figures["threaded"]["bytes"] - figures["native"]["bytes"]
    return figures


def show(figures: dict[str, Any], rounds: int) -> None:
    for name in ("native", "threaded"):
        row = figures[name]
        print(f"{name:10} {row['bytes']:8,.0f} bytes for each connection, {row['processor']:.2%} of a processor while "
              f"idle (medians of {rounds} rounds)")
    print(f"beyond native: {figures['beyond native']:,.0f} bytes for each connection")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=1, connections=10_000, seconds=10))
