"""What to run: every package of std that has tests for wasip1, and the extra runs of Go's release process."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from gothreads.build.go_command import go_environment
from gothreads.build.toolchain import Toolchain

#: What CI runs for every supported Go.
SMOKE = ("internal/runtime/atomic", "runtime", "sync", "sync/atomic", "context", "time", "os", "net/http",
         "encoding/json", "reflect", "testing", "io")

#: The packages whose tests are repeated: faults of a scheduler show there first.
REPEATED = ("sync", "sync/atomic", "context", "time", "internal/sync")

#: Tests that hang in native Go too; Go's release process runs only archive/zip with gcstoptheworld.
_NEEDS_CONCURRENT_MARK = {("runtime", "gcstoptheworld=2"): (
    "^(TestWeakToStrongMarkTermination|TestParallelRWMutexReaders)$",
    "they spin until another goroutine lets go, which in this mode a collection keeps from running: "
    "native Go hangs here too")}


@dataclass(frozen=True)
class Run:
    """One run of go test on one package. `variant`: the name that Go's cmd/dist has for it; empty for the plain run.

    left_out: the tests that cannot run here, as a pattern for go test -skip, and why.
    """

    package: str
    variant: str = ""
    flags: tuple[str, ...] = ("-short",)
    environment: dict[str, str] = field(default_factory=dict)
    binary_flags: tuple[str, ...] = ()
    left_out: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        return f"{self.package} ({self.variant})" if self.variant else self.package

    @property
    def slug(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


def plain(toolchain: Toolchain, package: str) -> Run:
    """The plain run of a package."""
    if package == "os" and not (toolchain.goroot / "LICENSE").exists():
        return Run(package, left_out=("TestFile(Readdir|ReadDir|Readdirnames)$/^sysdir$",
                                      "they look for LICENSE and CONTRIBUTING.md, which this GOROOT lacks"))
    return Run(package)


def packages(toolchain: Toolchain, patterns: Sequence[str] = ("std",)) -> list[str]:
    """The import paths that match the patterns and have tests for wasip1."""
    has_tests = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"
    done = subprocess.run([str(toolchain.go), "list", "-f", has_tests, *patterns], capture_output=True, text=True,
                          check=True, env=go_environment("single", preemption=False), cwd=toolchain.goroot / "src")
    return done.stdout.split()


def variants() -> list[Run]:
    """The extra runs of Go's cmd/dist: the runtime on 1, 2 and 4 procs, sync on 10, the collector's checking modes, and
    a hook at the start of every function.
    """
    runs = [Run("runtime", f"GOMAXPROCS=2, -cpu={cpu} -quick", ("-short", f"-cpu={cpu}"), {"GOMAXPROCS": "2"},
                ("-quick",)) for cpu in (1, 2, 4)]
    runs.append(Run("sync", "-cpu=10", ("-cpu=10",)))
    for mode in ("gccheckmark=1", "gcstoptheworld=2"):
        runs += [Run(package, f"GODEBUG={mode}", ("-short",), {"GODEBUG": mode},
                     left_out=_NEEDS_CONCURRENT_MARK.get((package, mode))) for package in ("runtime", "archive/zip")]
    for hook in ("mayMoreStackPreempt", "mayMoreStackMove"):
        runs += [Run(package, f"maymorestack={hook}", ("-short",), {"GOFLAGS": _hook_flags(hook)})
                 for package in ("runtime", "reflect", "sync")]
    return runs


def _hook_flags(hook: str) -> str:
    """GOFLAGS that set the hook, for the packages that the runtime's comment on it allows."""
    flags = []
    for flag in ("-gcflags", "-asmflags"):
        flags += [f"{flag}={package}=-d=maymorestack=runtime.{hook}" for package in ("runtime/...", "reflect", "sync")]
        flags.append(f"{flag}=runtime/testdata/...=")
    return " ".join(flags)
