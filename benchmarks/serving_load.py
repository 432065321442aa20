"""`gothreads serve` for half an hour, under a load that never lets it rest: apps are replaced, restarted and killed, a
queue is full, clients are slow, stall, and leave. Every request is answered right, or refused with the right status.

    python -m benchmarks.serving_load [--minutes 30] [--seed 1] [--json] [--write docs/serving.md]

One server has three apps of one program (serving_load_go): `steady` may refuse nothing; `fragile` is killed again and
again, and restarted; `narrow` takes four calls at a time, and has more clients than places. Each client checks each
answer: its value if the status is 200; otherwise the status must be one that this client may get there and then. In
between the server's own clients replace apps, and the sources are changed, also to some that cannot be built. In the
end the server is stopped, with calls in flight, which must be answered.

Ends with exit code 1 if anything was wrong, or the server's process has grown. Needs `pip install -e '.[test]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
from websockets.exceptions import WebSocketException

from benchmarks.document import missing, put
from benchmarks.load_client import Answer, Client, Cut
from benchmarks.serving_exchanges import LOAD, Clients

PROGRAM = Path(__file__).parent / "serving_load_go"
CONFIGURATION = """
[server]
port = 0
watch = true
allow_restart = true
drain = 300

[apps.steady]
module = "program"

[apps.fragile]
module = "program"
restart = "always"

[apps.narrow]
module = "program"
max_calls = 4
max_waiting = 6
max_client_calls = 8
"""
#: How long the server may take to end, in seconds.
PATIENCE = 120.0
#: How much larger the process may be in the last quarter of the time than in the second; and how many more threads and
#: descriptors it may have, since they come and go.
GROWTH, SLACK = 1.15, 12
MOST_FAULTS = 20


@dataclass
class Kind:
    """What clients of one kind have got. may: the statuses that are right besides 200."""

    may: frozenset[int]
    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of those that were 200


class Ledger:
    """All that was answered, and what was wrong."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self.faults: list[str] = []
        self.wrong = 0

    def fault(self, text: str) -> None:
        self.wrong += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(text)
            print(f"WRONG: {text}", file=sys.stderr, flush=True)

    def note(self, kind: str, answer: Answer, seconds: float, *, right: bool) -> None:
        """An answer. right: whether it is what a 200 must be."""
        known = self.kinds[kind]
        known.answers[str(answer.status)] += 1
        if answer.status == 200:
            known.seconds.append(seconds)
            if not right:
                self.fault(f"{kind}: a wrong answer: {answer.body[:200]!r}")
        elif answer.status not in known.may:
            self.fault(f"{kind}: {answer.status} {answer.body[:300]!r}")
        elif not isinstance(answer.json, dict) or "error" not in answer.json:
            self.fault(f"{kind}: {answer.status} without an error: {answer.body[:200]!r}")
        elif answer.status == 429 and "retry-after" not in answer.headers:
            self.fault(f"{kind}: 429 without Retry-After")


class Run:
    """One run against one server. process: the server's; until: when the load ends, in seconds of the loop's clock."""

    def __init__(self, port: int, process: psutil.Process, program: Path, seed: int) -> None:
        self._port, self._process, self._program, self._seed = port, process, program, seed
        self.ledger, self.samples = Ledger(), list[dict[str, float]]()
        self.happened: Counter[str] = Counter()

    async def load(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        for name, clients in LOAD.items():
            self.ledger.kinds[name] = Kind(frozenset(clients.may))
        async with asyncio.TaskGroup() as tasks:
            for name, clients in LOAD.items():
                for number in range(clients.count):
                    tasks.create_task(self._client(name, clients, random.Random(f"{self._seed} {name} {number}")))
            for others in (self._leave(), self._change_sources(), self._hang_up(), self._sample()):
                tasks.create_task(others)

    async def _on(self, pause: Callable[[], float]) -> AsyncIterator[None]:
        """Goes on until the load ends, with these pauses."""
        loop = asyncio.get_running_loop()
        while (left := self._until - loop.time()) > 0:
            yield
            await asyncio.sleep(min(pause(), max(0.0, left)))

    async def _client(self, name: str, clients: Clients, choose: random.Random) -> None:
        client = Client(self._port, clients.source)
        async for _ in self._on(lambda: choose.expovariate(10)):
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(clients.patience):
                    answer, right = await clients.exchange(client, choose)
            except TimeoutError:
                self.ledger.fault(f"{name}: no answer within {clients.patience:g} s")
            except Cut as error:
                self.ledger.kinds[name].answers["cut"] += 1
                self.ledger.fault(f"{name}: the connection was cut: {error}")
            except (ValueError, IndexError, WebSocketException) as error:
                self.ledger.fault(f"{name}: a broken answer: {error}")
                client.close()
            else:
                self.ledger.note(name, answer, time.perf_counter() - begun, right=right)
                if answer.status in (429, 503):
                    await asyncio.sleep(choose.uniform(0.2, 0.8))
        client.close()

    async def _leave(self) -> None:
        choose = random.Random(self._seed)
        async for _ in self._on(lambda: choose.uniform(0, 0.5)):
            client = Client(self._port, "127.0.0.4")
            app = choose.choice(("steady", "narrow", "fragile"))
            await client.leave(f"/{app}/api/request/wait", b"3000", choose.uniform(0, 0.5))
            self.happened["clients left"] += 1

    async def _change_sources(self) -> None:
        """Changes the program, sometimes to one that cannot be built, which changes nothing."""
        source, text = self._program / "main.go", (self._program / "main.go").read_text()
        number = 0
        async for _ in self._on(lambda: 60.0):
            number += 1
            broken = number % 4 == 0
            source.write_text(f"{text}\n// change {number}\n" + ("func broken( {\n" if broken else ""))
            self.happened["sources that cannot be built" if broken else "sources changed"] += 1
        source.write_text(text)

    async def _hang_up(self) -> None:
        first = True
        async for _ in self._on(lambda: 100.0):
            if not first:
                self._process.send_signal(signal.SIGHUP)
                self.happened["SIGHUP"] += 1
            first = False

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        begun, last = loop.time(), 0
        async for _ in self._on(lambda: 2.0):
            self.samples.append(self.sample() | {"seconds": loop.time() - begun})
            if (minute := int(self.samples[-1]["seconds"] // 60)) > last:
                last = minute
                done = sum(kind.answers.total() for kind in self.ledger.kinds.values())
                sample = self.samples[-1]
                print(f"{minute:3} min  {done:9,} answers  {self.ledger.wrong} wrong  "
                      f"{sample['memory'] / 1e6:6.0f} MB  {sample['threads']:.0f} threads  "
                      f"{sample['descriptors']:.0f} descriptors", file=sys.stderr, flush=True)

    def sample(self) -> dict[str, float]:
        return {"memory": self._process.memory_info().rss, "threads": self._process.num_threads(),
                "descriptors": self._process.num_fds()}

    async def finish(self) -> None:
        """Stop the server, with calls in flight."""
        async def last(client: Client) -> None:
            try:
                answer = await client.post("/steady/api/request/wait", b"3000")
                if answer.body != b"3000":
                    self.ledger.fault(f"a call in flight at the end got {answer.status} {answer.body[:200]!r}")
                self.happened["calls in flight at SIGTERM, answered"] += answer.status == 200
            except Cut as error:
                self.ledger.fault(f"a call in flight at the end: {error}")
        calls = [asyncio.create_task(last(Client(self._port))) for _ in range(20)]
        await asyncio.sleep(1.5)
        self._process.send_signal(signal.SIGTERM)
        await asyncio.gather(*calls)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[int, subprocess.Popen[bytes]]]:
    """Runs the server; yields its port and its process. The log is in the folder."""
    # SIGTERM to this process, too, is to end the server.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    shutil.copytree(PROGRAM, folder / "program")
    (folder / "gothreads.toml").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "gothreads", "serve", "--log-format", "json", "-c", str(folder / "gothreads.toml")]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while (found := re.search(rb"on http://127\.0\.0\.1:(\d+)", (folder / "log").read_bytes())) is None:
            if process.poll() is not None:
                raise SystemExit(f"the server has not started:\n{(folder / 'log').read_text()[-3000:]}")
            await asyncio.sleep(0.1)
        yield int(found[1]), process
    finally:
        process.kill()
        process.wait()


async def measure(seconds: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with serving(folder) as (port, process):
            run = Run(port, psutil.Process(process.pid), folder / "program", seed)
            at_start = run.sample()
            await run.load(seconds)
            await asyncio.sleep(60)  # instances that were replaced are closed, and Go returns memory
            at_rest = run.sample()
            await run.finish()
            try:
                code = await asyncio.to_thread(process.wait, PATIENCE)
            except subprocess.TimeoutExpired:
                code = None
        if code != 0:
            run.ledger.fault(f"the server has ended with {code}")
        log = [json.loads(line) for line in (folder / "log").read_bytes().splitlines() if line.startswith(b"{")]
        for line in log:
            if "traceback" in line:
                run.ledger.fault(f"a traceback in the log: {line['traceback'][-1500:]}")
    return figures(run, seconds, at_start, at_rest, log)


def figures(run: Run, seconds: float, at_start: Mapping[str, float], at_rest: Mapping[str, float],
            log: list[dict[str, Any]]) -> dict[str, Any]:
    quarter = len(run.samples) // 4
    process: dict[str, Any] = {}
    for name in ("memory", "threads", "descriptors"):
        second, last = (median(sample[name] for sample in part) for part in (
            run.samples[quarter:2 * quarter or 1], run.samples[-(quarter or 1):]))
        process[name] = {"start": at_start[name], "second_quarter": second, "last_quarter": last,
                         "rest": at_rest[name]}
        most = second * GROWTH if name == "memory" else second + SLACK
        if last > most:
            run.ledger.fault(f"{name} has grown: {second:,.0f} → {last:,.0f}")
    for what, pattern in (("restarts of `fragile`", r"restart \d+, in [\d.]+ s:"), ("replaced", "is replaced$"),
                          ("not replaced: the old one goes on", "is not replaced")):
        run.happened[what] = sum(re.search(pattern, line["message"]) is not None for line in log)
    return {"seconds": seconds, "faults": run.ledger.faults, "wrong": run.ledger.wrong, "process": process,
            "happened": dict(run.happened),
            "kinds": {name: {"answers": dict(kind.answers), **_latencies(kind.seconds)}
                      for name, kind in run.ledger.kinds.items()}}


def _latencies(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "max_ms": max(seconds) * 1000}


def table(found: dict[str, Any]) -> str:
    """The figures, for a page."""
    answers: Counter[str] = Counter()
    for kind in found["kinds"].values():
        answers.update(kind["answers"])
    by_status = ", ".join(f"{count:,} times {status}" for status, count in sorted(answers.items()))
    lines = [f"{found['seconds'] / 60:g} minutes, {sum(answers.values()):,} answers: {by_status}. Wrong: "
             f"{found['wrong']}.", "", "| clients | answers | p50 | p99 | longest |", "|---|---|--:|--:|--:|"]
    for name, kind in found["kinds"].items():
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(kind["answers"].items()))
        times = [f"{kind[key]:,.0f} ms" if key in kind else "" for key in ("p50_ms", "p99_ms", "max_ms")]
        lines.append(f"| {name} | {statuses} | {' | '.join(times)} |")
    lines += ["", "| what happened meanwhile | times |", "|---|--:|",
              *(f"| {what} | {count:,} |" for what, count in found["happened"].items())]
    lines += ["", "| the server's process | at the start | second quarter | last quarter | a minute after the load |",
              "|---|--:|--:|--:|--:|"]
    for name, row in found["process"].items():
        unit, scale = (" MB", 1e6) if name == "memory" else ("", 1)
        lines.append(f"| {name} | " + " | ".join(f"{value / scale:,.0f}{unit}" for value in row.values()) + " |")
    return "\n".join(lines) + "\n"


PLACE = "serving-load"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"put the tables there, at <!-- {PLACE}: begin -->")
    arguments = parser.parse_args()
    if arguments.write is not None and (why := missing(arguments.write, PLACE)) is not None:
        parser.error(why)
    found = asyncio.run(measure(arguments.minutes * 60, arguments.seed))
    print(json.dumps(found, indent=2) if arguments.json else table(found))
    if arguments.write is not None:
        put(arguments.write, PLACE, table(found))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
