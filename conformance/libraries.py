"""Real libraries: their own tests, as Debian packages them, natively and on threads.

A test that passes natively and not on threads has a reason here, or is a finding. Reasons are checked: their tests run
separately, and when one passes, its reason no longer applies. Tests that fail natively are only counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.plan import Run
from conformance.record import Record
from conformance.table import lost, reason
from gothreads.errors import MisuseError


@dataclass(frozen=True)
class Library:
    """`debian`: its Debian package; `packages`: the Go packages whose tests run; `needs`: Debian packages that only the
    tests need.

    `differs`: by package and test, why the test passes natively and cannot pass on threads.
    """

    name: str
    debian: str
    packages: tuple[str, ...]
    needs: tuple[str, ...] = ()
    differs: dict[str, dict[str, str]] = field(default_factory=dict, hash=False)


def _under(path: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{path}/{name}".rstrip("/") for name in names)


LIBRARIES = (
    Library("chi", "golang-github-go-chi-chi-dev", _under("github.com/go-chi/chi", "", "middleware")),
    Library("compress", "golang-github-klauspost-compress-dev",
            _under("github.com/klauspost/compress", "flate", "s2", "zstd")),
    Library("conc", "golang-github-sourcegraph-conc-dev", _under("github.com/sourcegraph/conc", "", "pool")),
    Library("decimal", "golang-github-shopspring-decimal-dev", ("github.com/shopspring/decimal",)),
    Library("goja", "golang-github-dop251-goja-dev", ("github.com/dop251/goja",)),
    Library("goldmark", "golang-github-yuin-goldmark-dev", ("github.com/yuin/goldmark",)),
    Library("gopher-lua", "golang-github-yuin-gopher-lua-dev", ("github.com/yuin/gopher-lua",)),
    Library("grpc", "golang-google-grpc-dev", _under("google.golang.org/grpc/internal", "transport")),
    Library("http2", "golang-golang-x-net-dev", _under("golang.org/x/net/http2", "", "hpack")),
    Library("regexp2", "golang-github-dlclark-regexp2-dev", ("github.com/dlclark/regexp2",)),
    Library("roaring", "golang-github-roaringbitmap-roaring-dev", ("github.com/RoaringBitmap/roaring",)),
    Library("ssh", "golang-golang-x-crypto-dev", ("golang.org/x/crypto/ssh",)),
    Library("starlark", "golang-starlark-dev", _under("go.starlark.net", "starlark", "syntax"), differs={
        "go.starlark.net/starlark": {"TestProfile": "runs go tool pprof, and WebAssembly has no other processes"}}),
    Library("sync", "golang-golang-x-sync-dev", _under("golang.org/x/sync", "errgroup", "semaphore", "singleflight")),
    Library("toml", "golang-github-burntsushi-toml-dev", ("github.com/BurntSushi/toml",)),
    Library("yaml", "golang-gopkg-yaml.v3-dev", ("gopkg.in/yaml.v3",), needs=("golang-gopkg-check.v1-dev",)),
    Library("zap", "golang-go.uber-zap-dev", _under("go.uber.org/zap", "", "zapcore")),
)

#: What CI runs: small, and each of another kind.
SMOKE = ("conc", "decimal", "sync", "toml")


def select(names: Sequence[str]) -> list[Library]:
    """The libraries with these names; all when there are no names. MisuseError for an unknown name."""
    known = {library.name: library for library in LIBRARIES}
    if unknown := [name for name in names if name not in known]:
        raise MisuseError(f"there is no library {unknown[0]!r} to test; there are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(LIBRARIES)


@dataclass
class Compared:
    """The runs of one package: native; threaded, without the tests that have a reason; and threaded, only those
    (`known`).
    """

    library: Library
    run: Run
    native: Record
    threaded: Record
    known: Record | None = None

    @property
    def reasons(self) -> dict[str, str]:
        return self.library.differs.get(self.run.package, {})

    def findings(self) -> list[str]:
        """The tests that pass natively and not on threads, without a reason."""
        return [test for test in lost(self.native, self.threaded) if not self._reason(test)]

    def outdated(self) -> list[str]:
        """The tests whose reason no longer applies: they pass on threads, or do not pass natively."""
        tests = self.known.tests if self.known else {}
        return [test for test in self.reasons if tests.get(test) == "pass" or self.native.tests.get(test) != "pass"]

    def lacking(self) -> Counter[str]:
        """By reason, how many tests pass natively and not on threads because of it."""
        reasons = (self._reason(test) for test in lost(self.native, self.threaded))
        return Counter(why for why in reasons if why)

    def _reason(self, test: str) -> str:
        """Why a test that passes natively does not pass on threads: a known reason, the reason that it logs when it
        skips itself, or that it is not for WebAssembly. Empty when there is no reason.
        """
        for name, why in self.reasons.items():
            if test == name or test.startswith(f"{name}/"):
                return why
        if skipped := next((name for name in _with_parents(test) if self.threaded.tests.get(name) == "skip"), None):
            return reason(self.threaded.reasons.get(skipped, ""))
        if test.split("/")[0] not in self.threaded.tests and self.threaded.verdict in ("pass", "skip"):
            return "in files that are not for wasip1"  # go test runs all tests that it compiles
        return ""


def _with_parents(test: str) -> Iterable[str]:
    """The test, and the tests that it is a subtest of."""
    while test:
        yield test
        test = test.rpartition("/")[0]


def runs(library: Library, version: str, gopath: Path) -> list[tuple[Run, Run, Run | None]]:
    """For each package: the native run, the threaded run, and the run of the tests with a reason, if there are any."""
    environment = {"GO111MODULE": "off", "GOPATH": str(gopath), "GOFLAGS": ""}
    found: list[tuple[Run, Run, Run | None]] = []
    for package in library.packages:
        names = library.differs.get(package, {})
        pattern = "|".join("/".join(f"^{re.escape(part)}$" for part in name.split("/")) for name in names)
        plain = Run(package, version, environment=environment)
        if not names:
            found.append((plain, plain, None))
            continue
        known = Run(package, f"{version} known", ("-short", f"-run={pattern}", "-timeout=3m"), environment)
        found.append((plain, Run(package, version, environment=environment, left_out=(pattern, "known")), known))
    return found


def figures(tested: Sequence[Compared], versions: dict[str, str]) -> dict[str, Any]:
    """The table as JSON: of the tests, only those that do not pass."""
    packages: dict[str, Any] = {}
    for one in tested:
        packages[one.run.package] = {
            "library": one.library.name, "debian": f"{one.library.debian} {versions[one.library.debian]}",
            "native": _counts(one.native), "threaded": _counts(one.threaded), "same": _same(one),
            "skipped": one.threaded.reasons, "reasons": one.reasons, "findings": one.findings()}
    return packages


def markdown(tested: Sequence[Compared], versions: dict[str, str]) -> list[str]:
    """The table as Markdown: a line for each library."""
    found = sum(len(one.findings()) for one in tested)
    lines = [f"{_total(tested)} tests of {len(tested)} packages pass natively and on threads. "
             f"Pass natively and fail on threads without a reason: **{found}**.", "",
             "| library | version | packages | native | same on threads | not on threads | fail natively |",
             "|---|---|--:|--:|--:|---|---|"]
    for library in dict.fromkeys(one.library for one in tested):
        own = [one for one in tested if one.library is library]
        lacking = sum((one.lacking() for one in own), Counter[str]())
        missing = [f"{count} {why}" for why, count in lacking.most_common()]
        missing += [f"**{one.run.package} {test}**" for one in own for test in one.findings()]
        failing = [test for one in own for test, verdict in one.native.tests.items()
                   if verdict == "fail" and "/" not in test]
        failing += [f"{one.run.package} (does not compile)" for one in own if one.native.verdict == "build-fail"]
        passed = sum(one.native.count("pass") for one in own)
        lines.append(f"| {library.name} | {versions[library.debian]} | {len(own)} | {passed} | {_total(own)} "
                     f"| {'; '.join(missing)} | {', '.join(failing)} |")
    return lines


def _counts(record: Record) -> dict[str, Any]:
    return {"verdict": record.verdict, "seconds": record.seconds, "passed": record.count("pass"),
            "failed": record.count("fail"),
            "failures": [test for test, verdict in record.tests.items() if verdict == "fail"]}


def _same(one: Compared) -> int:
    return one.native.count("pass") - len(lost(one.native, one.threaded))


def _total(tested: Iterable[Compared]) -> int:
    return sum(_same(one) for one in tested)
