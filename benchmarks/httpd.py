"""A net/http server (examples/httpd) under load from wrk: native, on threads, and stock Go's WebAssembly if it can serve at all.

    python -m benchmarks.httpd [--rounds 3] [--seconds 30] [--json]

Each round starts all, one after the other, and loads each route for so many seconds; the ratios are the medians of the rounds'.
wrk takes its share of the same processors. An answer that is not 2xx, or a connection that breaks, is a failure.
"""

from __future__ import annotations

import contextlib
import http.client
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
from gothreads.build.builder import Request, build
from gothreads.build.toolchain import find_go
from gothreads.errors import GothreadsError

EXAMPLE = Path(__file__).parent.parent / "examples" / "httpd"
ROUTES = ("/", "/json")
THREADS, CONNECTIONS = 2, 64
WARM_UP = 2      # seconds, not counted
PATIENCE = 120   # seconds for a server to come up: the module may have to be compiled to machine code first

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}


class Broken(Exception):
    """A server does not serve, and why."""


@dataclass(frozen=True)
class Load:
    """What wrk found. Latencies are in milliseconds."""

    requests: float  # a second
    p50: float
    p99: float


def parse(text: str) -> Load:
    """What wrk --latency printed. Broken when not all was well."""
    if wrong := re.search(r"^ *(Socket errors|Non-2xx or 3xx responses): .*", text, re.MULTILINE):
        raise Broken(f"wrk found faults. {wrong[0].strip()}")
    rate = re.search(r"^Requests/sec: +([\d.]+)", text, re.MULTILINE)
    latencies = {share: float(value) * _UNITS[unit] for share, value, unit in re.findall(r"^ +(50|99)% +([\d.]+)(us|ms|s|m|h)$", text, re.MULTILINE)}
    if rate is None or latencies.keys() != {"50", "99"} or float(rate[1]) == 0:
        raise Broken(f"wrk has no figures:\n{text}")
    return Load(float(rate[1]), latencies["50"], latencies["99"])


def wrk(address: str, route: str, seconds: int) -> Load:
    command = ["wrk", f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", f"http://{address}{route}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise Broken(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def free_address() -> str:
    """One whose port nobody has. The servers cannot be asked for theirs in the same way."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def request(address: str, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise Broken(f"{method} {path} is answered with {answer.status} {answer.reason}")


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[str]:
    """A server that answers, at the address; ended by asking it to. `command` has {address} in it. Broken when it does not serve."""
    address = free_address()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([word.format(address=address) for word in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _wait_for(process, address)
            request(address, "GET", "/")  # who connects may yet wait for the module
            yield address
            request(address, "POST", "/quit")
            if code := process.wait(PATIENCE):
                raise Broken(f"it ended with {code}")
        except (Broken, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
            process.kill()
            process.wait()
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-2000:]
            raise Broken(f"{error if isinstance(error, Broken) else repr(error)}" + (f". It said:\n{words}" if words else "")) from error
        finally:
            process.kill()  # does nothing when it has ended
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            raise Broken(f"it ended with {process.returncode} before it listened")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Broken(f"it does not listen after {PATIENCE} s") from None
            time.sleep(0.05)


def commands(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How to start each, and what could not be built, and why. Programs go to the folder."""
    native = folder / "httpd"
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    subprocess.run([find_go().go, "build", "-o", native, "."], cwd=EXAMPLE, env=environment, check=True)
    found, missing = {"native": [str(native), "-addr", "{address}"]}, {}
    for model in ("threaded", "single"):
        try:
            module = build(Request(str(EXAMPLE), model=model, buildmode="exe")).path
        except GothreadsError as error:
            missing[model] = f"it cannot be built. {error}"
            continue
        found[model] = [sys.executable, "-m", "gothreads", "run", "--listen", "{address}", str(module)]
    return found, missing


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """By route and server: requests a second, milliseconds, and the ratio to native. Under "not run": what does not serve, and why."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed, and not on PATH: apt-get install wrk")
    loads: dict[str, dict[str, list[Load]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers, missing = commands(Path(folder))
        _check(missing)
        for _ in range(rounds):
            for name, command in list(servers.items()):
                try:
                    with serving(command) as address:
                        wrk(address, ROUTES[0], WARM_UP)
                        measured = {route: wrk(address, route, seconds) for route in ROUTES}
                except Broken as error:
                    missing[name] = str(error)
                    del servers[name]
                    loads.pop(name, None)
                    continue
                for route, load in measured.items():
                    loads.setdefault(name, {}).setdefault(route, []).append(load)
            _check(missing)
    found: dict[str, Any] = {route: {name: _figures(by_route[route], loads["native"][route]) for name, by_route in loads.items()} for route in ROUTES}
    return found | {"not run": missing}


def _check(missing: dict[str, str]) -> None:
    """Without these two there is nothing to compare; stock Go may not serve."""
    if broken := [f"{name} does not serve: {missing[name]}" for name in ("native", "threaded") if name in missing]:
        raise SystemExit("\n".join(broken))


def _figures(loads: list[Load], native: list[Load]) -> dict[str, float]:
    return {"requests_per_second": statistics.median(load.requests for load in loads),
            "p50_ms": statistics.median(load.p50 for load in loads), "p99_ms": statistics.median(load.p99 for load in loads),
            "ratio": statistics.median(load.requests / beside.requests for load, beside in zip(loads, native, strict=True))}


def show(found: dict[str, Any], rounds: int) -> None:
    print(f"{'route':8} {'server':10} {'requests/s':>10} {'p50':>10} {'p99':>10}   of native ({CONNECTIONS} connections, medians of {rounds} rounds)")
    for route in ROUTES:
        for name, figures in found[route].items():
            print(f"{route:8} {name:10} {figures['requests_per_second']:10,.0f} {figures['p50_ms']:8.2f}ms {figures['p99_ms']:8.2f}ms   {figures['ratio']:.2f}")
    for name, why in found["not run"].items():
        print(f"{name} does not serve: {why}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, seconds=30))
