"""A net/http server (examples/httpd) under load from wrk: native, on threads, and stock Go's WebAssembly if it can
serve at all.

    python -m benchmarks.httpd                                  ten minutes: leave the machine alone meanwhile
    python -m benchmarks.httpd --rounds 1 --seconds 5           a look
    python -m benchmarks.httpd --write docs/performance.md      puts the table there, too

Each round starts every server in turn and loads each route for some seconds; ratios are medians of the rounds'. wrk
takes its share of the same processors. A response other than 2xx or 3xx, or a broken connection, is a failure. Memory
is the server process's resident set, with all that is in it (Python and wasmtime, too): before the load, and after.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import run
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.errors import GothreadsError
from gothreads.tools.compare.figures import median_ratio
from gothreads.tools.compare.rounds import in_rounds

EXAMPLE = Path(__file__).parent.parent / "examples" / "httpd"
#: The example's main.go for stock Go, whose package net does not reach the network, and whose os/signal, once in use,
#: keeps the only thread from polling.
STOCK_MAIN = """package main

import (
	"context"

	"gothreads/guest"
)

func main() {
	listener, err := guest.Listener()
	if err == nil {
		err = serve(context.Background(), func() {}, listener)
	}
	if err != nil {
		panic(err)
	}
}
"""
ROUTES = ("/", "/json", "/primes")
THREADS, CONNECTIONS = 2, 64
WARM_UP = 2      # seconds, not counted
PATIENCE = 120   # seconds for a server to come up: the module may have to be compiled to machine code first

#: The table's place in a document.
_PLACE = "httpd"
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}


class NotServing(Exception):
    """A server does not serve; the message says why."""


@dataclass(frozen=True)
class Load:
    """What wrk measured. Latencies in milliseconds."""

    requests: float  # a second
    p50: float
    p99: float


@dataclass(frozen=True)
class Server:
    """A server that is up."""

    address: str
    process: int

    def resident(self) -> float:
        """The memory of its process, in MB."""
        status = Path(f"/proc/{self.process}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, status
        return int(found[1]) / 1024


@dataclass(frozen=True)
class Sample:
    """What one round gave for one server: the loads of its routes, and MB before and after them."""

    loads: dict[str, Load]
    before: float
    after: float


def parse(text: str) -> Load:
    """Reads the output of wrk --latency. NotServing when it reports errors."""
    if wrong := re.search(r"^ *(Socket errors|Non-2xx or 3xx responses): .*", text, re.MULTILINE):
        raise NotServing(f"wrk reports errors. {wrong[0].strip()}")
    rate = re.search(r"^Requests/sec: +([\d.]+)", text, re.MULTILINE)
    latencies = {share: float(value) * _UNITS[unit]
                 for share, value, unit in re.findall(r"^ +(50|99)% +([\d.]+)(us|ms|s|m|h)$", text, re.MULTILINE)}
    if rate is None or latencies.keys() != {"50", "99"} or float(rate[1]) == 0:
        raise NotServing(f"wrk has no figures:\n{text}")
    return Load(float(rate[1]), latencies["50"], latencies["99"])


def wrk(address: str, route: str, seconds: int, *options: str) -> Load:
    command = ["wrk", f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *options,
               f"http://{address}{route}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise NotServing(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def free_address() -> str:
    """An address whose port is free. The servers have no common way of telling theirs."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def request(address: str, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise NotServing(f"{method} {path} was answered with {answer.status} {answer.reason}")


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[Server]:
    """Runs a server; shuts it down by a request. `command` contains {address}. NotServing when it does not serve."""
    address = free_address()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([word.format(address=address) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output)
        try:
            _wait_for(process, address)
            request(address, "GET", "/")  # the port may be open before the module answers
            yield Server(address, process.pid)
            request(address, "POST", "/quit")
            if code := process.wait(PATIENCE):
                raise NotServing(f"it ended with {code}")
        except (NotServing, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
            process.kill()
            process.wait()
            output.seek(0)
            words = output.read().decode(errors="replace").strip()[-2000:]
            raise NotServing(f"{error if isinstance(error, NotServing) else repr(error)}"
                             + (f". Its output:\n{words}" if words else "")) from error
        finally:
            process.kill()  # no effect when it has ended
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            raise NotServing(f"it ended with {process.returncode} before it listened")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise NotServing(f"it does not listen after {PATIENCE} s") from None
            time.sleep(0.05)


def commands(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How to start each server; and for each that could not be built, why. Programs are written to the folder."""
    native = folder / "httpd"
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    subprocess.run([find_go().go, "build", "-o", native, "."], cwd=EXAMPLE, env=environment, check=True)
    servers, missing = {"native": [str(native), "-addr", "{address}"]}, {}
    stock = Path(shutil.copytree(EXAMPLE, folder / "stock"))
    (stock / "main.go").write_text(STOCK_MAIN)
    for model, source in (("threaded", EXAMPLE), ("single", stock)):
        try:
            module = build(Request(str(source), model=model, buildmode="exe")).path
        except GothreadsError as error:
            missing[model] = f"it cannot be built. {error}"
            continue
        servers[model] = [sys.executable, "-m", "gothreads", "run",
                          "--listen", "{address}", str(module), "-addr", "{address}"]
    return servers, missing


def sample(command: list[str], seconds: int) -> Sample:
    with serving(command) as server:
        before = server.resident()
        wrk(server.address, ROUTES[0], WARM_UP)
        loads = {route: wrk(server.address, route, seconds) for route in ROUTES}
        return Sample(loads, before, server.resident())


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """By route and server: requests a second, milliseconds, and the ratio to native. "memory": MB, by server. "not
    run": which do not serve, and why. "run": what was run, for the table.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on PATH: apt-get install wrk")
    busy = os.getloadavg()[0]
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers, missing = commands(Path(folder))
        _check(missing)
        # Round 0 fills the cache of machine code: a process that has compiled keeps memory from that.
        for number, name in in_rounds(list(servers), 1 + rounds):
            if name in missing:
                continue
            try:
                taken = sample(servers[name], seconds if number else 1)
            except NotServing as error:
                missing[name] = str(error)
                samples.pop(name, None)
                _check(missing)
                continue
            if number:
                samples.setdefault(name, []).append(taken)
    samples = {name: samples[name] for name in servers if name in samples}
    figures: dict[str, Any] = {
        route: {name: _figures([one.loads[route] for one in taken], [one.loads[route] for one in samples["native"]])
                for name, taken in samples.items()}
        for route in ROUTES}
    memory = {name: {"before": statistics.median(one.before for one in taken),
                     "after": statistics.median(one.after for one in taken)} for name, taken in samples.items()}
    return figures | {"memory": memory, "not run": missing,
                      "run": {"rounds": rounds, "seconds": seconds, "load": busy, "cpus": os.cpu_count(),
                              "go": find_go().version, "wasmtime": importlib.metadata.version("wasmtime")}}


def _check(missing: dict[str, str]) -> None:
    """Without these two there is nothing to compare; stock Go may fail to serve."""
    if broken := [f"{name} does not serve: {missing[name]}" for name in ("native", "threaded") if name in missing]:
        raise SystemExit("\n".join(broken))


def _figures(loads: list[Load], native: list[Load]) -> dict[str, float]:
    return {"requests_per_second": statistics.median(load.requests for load in loads),
            "p50_ms": statistics.median(load.p50 for load in loads),
            "p99_ms": statistics.median(load.p99 for load in loads),
            "ratio": median_ratio((load.requests for load in loads), (load.requests for load in native))}


def table(figures: dict[str, Any]) -> str:
    """The table of a document, in Markdown."""
    lines = ["| | route | requests/s | of native | p50 | p99 | memory at start | after the load |",
             "|---|---|---|---|---|---|---|---|"]
    for name, memory in figures["memory"].items():
        for route in ROUTES:
            row = figures[route][name]
            resident = f"{memory['before']:.0f} MB | {memory['after']:.0f} MB" if route == ROUTES[0] else " | "
            lines.append(f"| {name if route == ROUTES[0] else ''} | `{route}` | {row['requests_per_second']:,.0f} "
                         f"| {row['ratio']:.2f} | {row['p50_ms']:.2f} ms | {row['p99_ms']:.1f} ms | {resident} |")
    run = figures["run"]
    lines += ["", f"{CONNECTIONS} connections, {run['rounds']} rounds of {run['seconds']} s for each route, on "
                  f"{run['cpus']} processors that wrk shares;",
              f"{run['go']}, wasmtime {run['wasmtime']}; load average before: {run['load']:.1f}."]
    return "\n".join(lines) + "\n"


def show(figures: dict[str, Any], _rounds: int) -> None:
    print(table(figures), end="")
    for name, why in figures["not run"].items():
        print(f"{name} does not serve: {why}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, document=(_PLACE, table), seconds=30))
