"""A line of JSON over HTTP, under load from wrk: `gothreads serve` with a handler in Go, uvicorn with the same answer
from Python, and net/http in a module.

    python -m benchmarks.serving                            four minutes: leave the machine alone meanwhile
    python -m benchmarks.serving --rounds 1 --seconds 3     a look

Each round starts every server in turn, and loads it for some seconds; ratios are medians of the rounds'. wrk takes its
share of the same processors. A response other than 2xx or 3xx, or a broken connection, is a failure. Processor time is
that of the server's process. uvicorn parses HTTP with h11, as `gothreads serve` does, so the difference between these
two is what gothreads does itself: its checks, counts and limits, and the call.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import run
from benchmarks.httpd import CONNECTIONS, PATIENCE, WARM_UP, Load, NotServing, free_address, request, wrk
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.tools.compare.figures import median_ratio
from gothreads.tools.compare.rounds import in_rounds

PROGRAM = Path(__file__).parent / "serving_go"
ROUTE = "/api/request/hello"
#: What others are compared with.
PYTHON = "uvicorn"
APPLICATION = '''
async def answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"hello":"world"}'})
'''
SCRIPT = 'wrk.method = "POST"\nwrk.body = "x"\n'


@dataclass(frozen=True)
class Sample:
    """What one round gave for one server. processor: seconds for each request."""

    load: Load
    processor: float


def commands(folder: Path) -> Mapping[str, Sequence[str]]:
    """How to start each server: {address}, {host} and {port} are where."""
    module = str(build(Request(str(PROGRAM))).path)
    (folder / "application.py").write_text(APPLICATION)
    python, place = [sys.executable, "-m"], ["--host", "{host}", "--port", "{port}"]
    return {
        "gothreads serve": [*python, "gothreads", "serve", *place, module],
        PYTHON: [*python, "uvicorn", *place, "--http", "h11", "--loop", "asyncio", "--no-access-log", "--log-level",
                 "warning", "--app-dir", str(folder), "application:answer"],
        "net/http in a module": [*python, "gothreads", "run", "--listen", "{address}", module, "{address}"],
    }


@contextlib.contextmanager
def serving(command: Sequence[str], address: str) -> Iterator[int]:
    """Runs a server; yields its process. NotServing when it does not answer."""
    host, port = address.split(":")
    words = [word.format(address=address, host=host, port=port) for word in command]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise NotServing(f"{command} does not answer:\n{output.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        request(address, "POST", ROUTE)
        return True
    except (OSError, NotServing):
        return False


def processor(process: int) -> float:
    """The processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sample(command: Sequence[str], script: Path, seconds: int) -> Sample:
    address = free_address()
    with serving(command, address) as process:
        wrk(address, ROUTE, WARM_UP, "-s", str(script))
        before = processor(process)
        load = wrk(address, ROUTE, seconds, "-s", str(script))
        return Sample(load, (processor(process) - before) / (load.requests * seconds))


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """By server: requests a second, milliseconds, µs of processor time, and ratios to uvicorn's."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on PATH: apt-get install wrk")
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as name:
        script = Path(name, "post.lua")
        script.write_text(SCRIPT)
        servers = commands(Path(name))
        for _, server in in_rounds(list(servers), rounds):
            samples.setdefault(server, []).append(sample(servers[server], script, seconds))
    python = samples[PYTHON]
    return {server: {"requests_per_second": statistics.median(one.load.requests for one in samples[server]),
                     "p50_ms": statistics.median(one.load.p50 for one in samples[server]),
                     "p99_ms": statistics.median(one.load.p99 for one in samples[server]),
                     "processor_us": statistics.median(one.processor for one in samples[server]) * 1e6,
                     "ratio": median_ratio((one.load.requests for one in samples[server]),
                                           (one.load.requests for one in python)),
                     "processor_ratio": median_ratio((one.processor for one in samples[server]),
                                                     (one.processor for one in python))}
            for server in servers}


def show(figures: dict[str, Any], _rounds: int) -> None:
    print(f"{'':22} {'requests/s':>10} {'of uvicorn':>10} {'p50':>9} {'p99':>9} {'processor':>9} {'of uvicorn':>10}")
    for server, row in figures.items():
        print(f"{server:22} {row['requests_per_second']:10,.0f} {row['ratio']:10.2f} {row['p50_ms']:6.2f} ms "
              f"{row['p99_ms']:6.1f} ms {row['processor_us']:6.0f} µs {row['processor_ratio']:10.2f}")
    print(f"{CONNECTIONS} connections; processor time of a request, in the server's process")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, seconds=20))
