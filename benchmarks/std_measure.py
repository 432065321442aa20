"""Builds and runs Go's own benchmarks in four designs, in rounds, for benchmarks/std.py; keeps what was measured."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.std_plan import Package
from conformance.building import environment
from gothreads.build.optimizer import identity
from gothreads.build.overlay import fingerprint, write_overlay
from gothreads.build.toolchain import Toolchain
from gothreads.errors import CompileError, GothreadsError
from gothreads.files import cache_folder, write_atomically
from gothreads.tools.compare.rounds import in_rounds

#: The designs: what each program is built for, as conformance/building.py names it.
DESIGNS = {"native": "native", "stock": "single", "threaded": "threaded", "optimized": "threaded"}

_HERE = Path(__file__).parent
#: How often each benchmark runs in a round. The least counts.
REPEATED = 2
_LINE = re.compile(r"^Benchmark(\S+)\s+\d+\s+([\d.]+) ns/op", re.MULTILINE)
#: No process takes longer, in seconds.
_PATIENCE = 900.0

#: Called with what is being done.
Running = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure. seconds: of CPU time, each time that a benchmark runs; Go chooses the iterations by it."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Record:
    """One package: by design and benchmark, nanoseconds of CPU time of an iteration, in each round.

    key: everything that they depend on, except the host's code. load: the machine's load average before.
    """

    key: str
    load: float
    samples: dict[str, dict[str, list[float]]]

    def least(self, design: str, name: str) -> float:
        return min(self.samples[design][name])


class Measurement:
    """Measures packages. Records are in gothreads' cache, so that an interrupted run continues where it stopped."""

    def __init__(self, toolchain: Toolchain, settings: Settings, *, again: bool, running: Running) -> None:
        self._toolchain, self._settings, self._again, self._running = toolchain, settings, again, running
        self._folder = cache_folder() / "std-benchmarks" / toolchain.version

    def record(self, package: Package) -> Record:
        """The record of an earlier run that measured the same, or of a new one."""
        path, key = self._folder / f"{package.slug}.json", self._key(package)
        self._folder.mkdir(parents=True, exist_ok=True)
        known = None if self._again else _load(path)
        if known is not None and known.key == key:
            return known
        done = Record(key, os.getloadavg()[0], self._measured(package))
        write_atomically(path, json.dumps(asdict(done)).encode())
        return done

    def _key(self, package: Package) -> str:
        return (f"{self._toolchain.version} wasmtime {importlib.metadata.version('wasmtime')} {fingerprint()} "
                f"{identity()} {_digest(f'{package} {self._settings} {REPEATED} {self._sources(package)}')}")

    def _sources(self, package: Package) -> list[str]:
        """The Go files of ours that a package's program is made of."""
        own = sorted((_HERE / package.path).glob("*.go")) if package.own else []
        return [file.read_text() for file in (*sorted((_HERE / "std_clock").iterdir()), *own)]

    def _measured(self, package: Package) -> dict[str, dict[str, list[float]]]:
        samples: dict[str, dict[str, list[float]]] = {design: {name: [] for name in package.names}
                                                      for design in DESIGNS}
        programs = {}
        for kind in dict.fromkeys(DESIGNS.values()):
            self._running(f"{package.path}: building, {kind}")
            programs[kind] = self._program(package, kind)
        for design, kind in DESIGNS.items():  # makes machine code, which is kept in the cache
            self._running(f"{package.path}: compiling, {design}")
            self._run(package, design, programs[kind], benchtime="1x")
        for number, design in in_rounds(tuple(DESIGNS), self._settings.rounds):
            self._running(f"{package.path}: round {number + 1} of {self._settings.rounds}, {design}")
            for name, taken in self._run(package, design, programs[DESIGNS[design]],
                                         benchtime=f"{self._settings.seconds}s").items():
                samples[design][name].append(taken)
        return samples

    def _program(self, package: Package, kind: str) -> Path:
        """The package's test program, timed by CPU time; built unless it is there. CompileError with Go's output."""
        clock = (_HERE / "std_clock" / ("native.go" if kind == "native" else "wasm.go")).read_text()
        overlay = write_overlay(self._toolchain, cache_folder(), threaded=kind == "threaded", testing=True,
                                extra={self._toolchain.goroot / "src" / "testing" / "testing_other.go": clock})
        digest = _digest(f"{overlay} {self._sources(package)}")
        output = self._folder / f"{package.slug}-{kind}-{digest}"
        if output.exists():
            return output
        made = self._folder / f"new-{kind}"
        command = [str(self._toolchain.go), "test", "-c", "-overlay", str(overlay), "-ldflags=-s=false", "-o",
                   str(made), "."]
        done = subprocess.run(command, cwd=self._source(package), env=environment(kind), capture_output=True, text=True)
        if done.returncode:
            raise CompileError(f"the benchmarks of {package.path} do not build, {kind}", done.stdout + done.stderr)
        for old in self._folder.glob(f"{package.slug}-{kind}-*"):
            old.unlink()
        made.replace(output)
        return output

    def _source(self, package: Package) -> Path:
        return _HERE / package.path if package.own else self._toolchain.goroot / "src" / package.path

    def _run(self, package: Package, design: str, program: Path, benchtime: str) -> Mapping[str, float]:
        """Run a package's benchmarks once. By name, nanoseconds of an iteration."""
        runner = {"native": [], "optimized": [sys.executable, "-m", "benchmarks.std_program", "--optimize"]}
        command = [*runner.get(design, [sys.executable, "-m", "benchmarks.std_program"]), str(program),
                   "-test.run=^$", f"-test.bench={package.pattern}", f"-test.benchtime={benchtime}", "-test.cpu=1",
                   f"-test.count={REPEATED}"]
        paths = os.pathsep.join(filter(None, (str(_HERE.parent), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(command, cwd=self._source(package), capture_output=True, text=True, timeout=_PATIENCE,
                              env=os.environ | {"GOMAXPROCS": "1", "PYTHONPATH": paths})
        found: dict[str, float] = {}
        for name, taken in _LINE.findall(done.stdout):
            found[name] = min(float(taken), found.get(name, math.inf))
        if done.returncode or found.keys() != set(package.names):
            missing = ", ".join(sorted(set(package.names) - found.keys())) or "nothing"
            raise GothreadsError(f"{package.path}, {design}: exit code {done.returncode}, missing: {missing}; more: "
                                 f"{', '.join(sorted(found.keys() - set(package.names))) or 'nothing'}\n"
                                 f"{(done.stdout + done.stderr)[-2000:]}")
        return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _load(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # there is none, or it is incomplete
        return None
