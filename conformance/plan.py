"""What is run: every package of std that has tests for wasip1, and what Go's release process runs on its runtime besides."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from gothreads.build.builder import go_environment
from gothreads.build.toolchain import Toolchain

#: What CI runs for every supported Go.
SMOKE = ("internal/runtime/atomic", "runtime", "sync", "sync/atomic", "context", "time", "os", "net/http", "encoding/json", "reflect", "testing", "io")

#: The repetitions that a scheduler has to stand.
REPEATED = ("sync", "sync/atomic", "context", "time", "internal/sync")


#: Native Go hangs in these too; Go's release process runs only archive/zip with gcstoptheworld.
_NEEDS_CONCURRENT_MARK = {("runtime", "gcstoptheworld=2"): (
    "^(TestWeakToStrongMarkTermination|TestParallelRWMutexReaders)$",
    "they spin until another goroutine lets go, which in this mode a collection keeps from running: native Go hangs here too")}


@dataclass(frozen=True)
class Run:
    """One go test of one package. `variant` is empty for the plain one, else what Go's own cmd/dist calls it."""

    package: str
    variant: str = ""
    flags: tuple[str, ...] = ("-short",)
    environment: dict[str, str] = field(default_factory=dict)
    binary_flags: tuple[str, ...] = ()
    left_out: tuple[str, str] | None = None  # tests that cannot run here, as go test -skip names them, and why

    @property
    def name(self) -> str:
        return f"{self.package} ({self.variant})" if self.variant else self.package

    @property
    def slug(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


def plain(toolchain: Toolchain, package: str) -> Run:
    """The run of a package as it is."""
    if package == "os" and not (toolchain.goroot / "LICENSE").exists():
        return Run(package, left_out=("TestFile(Readdir|ReadDir|Readdirnames)$/^sysdir$", "they look for LICENSE and CONTRIBUTING.md, which this GOROOT lacks"))
    return Run(package)


def packages(toolchain: Toolchain, patterns: Sequence[str] = ("std",)) -> list[str]:
    """The import paths that patterns name and that have tests for this target."""
    has_tests = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"
    done = subprocess.run([str(toolchain.go), "list", "-f", has_tests, *patterns], capture_output=True, text=True, check=True,
                          env=go_environment("single", preemption=False), cwd=toolchain.goroot / "src")
    return done.stdout.split()


def variants() -> list[Run]:
    """Go's cmd/dist: the runtime on 1, 2 and 4 procs, sync on 10, the collector's checking modes, and a hook at every function's start."""
    runs = [Run("runtime", f"GOMAXPROCS=2, -cpu={cpu} -quick", ("-short", f"-cpu={cpu}"), {"GOMAXPROCS": "2"}, ("-quick",)) for cpu in (1, 2, 4)]
    runs.append(Run("sync", "-cpu=10", ("-cpu=10",)))
    for mode in ("gccheckmark=1", "gcstoptheworld=2"):
        runs += [Run(package, f"GODEBUG={mode}", ("-short",), {"GODEBUG": mode}, left_out=_NEEDS_CONCURRENT_MARK.get((package, mode)))
                 for package in ("runtime", "archive/zip")]
    for hook in ("mayMoreStackPreempt", "mayMoreStackMove"):
        runs += [Run(package, f"maymorestack={hook}", ("-short",), {"GOFLAGS": _hooked(hook)}) for package in ("runtime", "reflect", "sync")]
    return runs


def _hooked(hook: str) -> str:
    """The hook goes where the runtime's comment on it says that it may."""
    flags = []
    for flag in ("-gcflags", "-asmflags"):
        flags += [f"{flag}={package}=-d=maymorestack=runtime.{hook}" for package in ("runtime/...", "reflect", "sync")]
        flags.append(f"{flag}=runtime/testdata/...=")
    return " ".join(flags)
