"""What tests share: real modules, built by the real toolchain once and kept in gothreads' cache.

The tests test the gothreads that is installed: a wheel in site-packages, as users have it, or an editable install. The
sources in this checkout have no compiled extension, and must not shadow it. So the checkout comes last on sys.path, here
(--import-mode=append in pyproject.toml) and in the processes that tests start (`pytest_configure`).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

import gothreads
from gothreads.build.builder import Request, build
from gothreads.engine import interrupt
from gothreads.files import cache_folder, locked, write_atomically
from gothreads.version import installed_package
from tests.faults import Fault, Measured, markdown

# A shell's background jobs ignore Ctrl-C, and so would all processes that tests begin, and send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
MODULES = Path(__file__).parent / "modules"
NATIVE = Path(__file__).parent / "modules_native"
_WASI_THREADS = ("cc", "-target", "wasm32-freestanding", "-mcpu=generic+atomics+bulk_memory", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--import-memory",
                 "-Wl,--shared-memory", "-Wl,--max-memory=67108864", "-Wall", "-Wextra", "-Werror", "-o")
#: How Zig builds the sources of tests/modules_native; the output's name follows. (Zig's own std.Thread does not link for WASI in 0.17, and
#: its libc has no pthreads for it: threads are C, with a header of ours.)
_ZIG = {"strings.c": ("cc", "-target", "wasm32-wasi", "-O2", "-mexec-model=reactor", "-o"),
        "strings.zig": ("build-exe", "-target", "wasm32-freestanding", "-OReleaseSmall", "-fno-entry", "-rdynamic", "-femit-bin="),
        "threads.c": _WASI_THREADS, "program.c": _WASI_THREADS}


#: What tests of faults have measured in this session.
_MEASURED: pytest.StashKey[list[Measured]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", metavar="FILE", type=Path, help="write what the tests of faults have measured there (docs/faults.md)")


def pytest_configure(config: pytest.Config) -> None:
    measured: list[Measured] = []
    config.stash[_MEASURED] = measured
    tested, expected = Path(gothreads.__file__).parent, installed_package()
    if expected is None:
        raise pytest.UsageError("gothreads is not installed: pip install '.[test]'")
    if not tested.samefile(expected):
        raise pytest.UsageError(f"this would test {tested}, but {expected} is installed. Run `pytest`: `python -m pytest` "
                                "and PYTHONPATH put this folder before what is installed")
    # Python does not put the folder that a process runs in first; the checkout (tests, stress) follows what is installed.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(expected.parent), str(ROOT))))


def pytest_collection_finish() -> None:
    # What is here now stays to the end: all tests, and what they import. `nothing_left` need not look through it, twice a test: 0.1 seconds each.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if (file := session.config.getoption("--faults-table")) is not None and exitstatus == 0:
        measured: list[Measured] = session.config.stash[_MEASURED]
        file.write_text(markdown(measured))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, Fault, int, float], None]:
    """Note how long something took: the table's section, the fault, the number of callers, seconds."""
    def note(section: str, fault: Fault, callers: int, seconds: float) -> None:
        request.config.stash[_MEASURED].append(Measured(section, fault, callers, seconds))
    return note


@functools.cache  # asking Go whether all is up to date takes as long as many a test
def built(name: str, model: str = "threaded", **options: object) -> Path:
    """A module of tests/modules (or of examples), built."""
    folder = MODULES / name
    if not folder.exists():
        folder = ROOT / "examples" / name
    return build(Request(str(folder), model=model, **options)).path  # type: ignore[arg-type]


def native(source: str) -> Path:
    """A module of tests/modules_native, built by Zig (of which it has the C compiler) when its sources have changed."""
    *flags, output = _ZIG[source]
    wanted = [version("ziglang"), *flags, *((NATIVE / name).read_text() for name in ("wasi_threads.h", source))]
    folder = cache_folder() / "tests"
    path = folder / f"{source.replace('.', '_')}-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}.wasm"
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        if not path.exists():
            made = folder / "made.wasm"
            to = [output + str(made)] if output.endswith("=") else [output, str(made)]
            environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
            subprocess.run([sys.executable, "-m", "ziglang", *flags, str(NATIVE / source), *to], env=environment, check=True)
            write_atomically(path, made.read_bytes())
    return path


@pytest.fixture(scope="session")
def calls() -> Path:
    """The threaded module `calls`."""
    return built("calls")


@pytest.fixture(scope="session")
def calls_single() -> Path:
    """The same program for stock Go."""
    return built("calls", model="single")


@pytest.fixture
def app(calls: Path) -> Iterator[gothreads.App]:
    """A running `calls` of the test's own."""
    with gothreads.open(calls, stderr=io.BytesIO()) as running:
        yield running


MODELS = ["threaded", "single", "idle", "pool"]


def opened(name: str, model: str = "threaded", **options: Any) -> gothreads.App:
    """A module of tests/modules in one of the models."""
    return gothreads.open(built(name, model="threaded" if model == "threaded" else "single"), model=model, **options)


@pytest.fixture
def patient_host(tmp_path: Path) -> Path:
    """A Python file with what `patient` imports."""
    path = tmp_path / "host.py"
    path.write_text("import gothreads\nhost = gothreads.Host()\n\n@host.function('env')\ndef call_again(n: int) -> int:\n    return n\n")
    return path


@pytest.fixture
def nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No threads, no descriptors, and nothing that was logged (caplog.clear() for what should be)."""
    interrupt.watch()  # has a thread and a pipe, for good
    gc.collect()
    process = psutil.Process()
    before = process.num_fds()
    yield
    wait_until(lambda: not gothreads_threads(), left=gothreads_threads)
    gc.collect()
    assert process.num_fds() <= before
    assert [record.getMessage() for record in caplog.records] == []


def gothreads_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gothreads-") and t.name != "gothreads-interrupt"]


def wait_until(condition: Callable[[], object], seconds: float = 10.0, left: Callable[[], object] = lambda: "what was waited for did not happen") -> None:
    """Wait for something to become true; fail with what is left when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, left()
        time.sleep(0.002)


def together(*jobs: Callable[[], object]) -> list[object]:
    """Run jobs on threads of their own, released at the same moment; the results, or the first exception."""
    barrier = threading.Barrier(len(jobs))
    results: list[object] = [None] * len(jobs)
    failed: list[BaseException] = []

    def run(place: int, job: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[place] = job()
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return results


def one_in_one_waiting(app: gothreads.App, inside: Callable[[], Future[Any]], waiting: Callable[[], Future[Any]]) -> list[Future[Any]]:
    """Two calls of an app that takes one at a time: the first, which does not come back, is in the module when the second begins to wait."""
    turns = app._turns  # type: ignore[attr-defined]
    futures = [inside()]
    wait_until(lambda: turns._owner)
    futures.append(waiting())
    wait_until(lambda: turns.taken == 2)
    return futures


def assert_linear(make: Callable[[int], Any], run: Callable[[Any], object], begin: int = 1000, most: int = 16_000) -> None:
    """Fail unless `run(make(n))` takes CPU time in proportion to n: four times n may take eight times as long; a quadratic algorithm takes sixteen.

    n grows from `begin` until a run takes 5 ms, so that what is done once does not count, but not beyond `most`, where what a quadratic
    algorithm takes is much longer than that. The least of a few runs is what it takes: other threads and processes only add to it.
    """
    def least(size: int, runs: int) -> float:
        times = []
        for _ in range(runs):
            given = make(size)
            started = time.thread_time()
            run(given)
            times.append(time.thread_time() - started)
        return min(times)
    size = begin
    while (once := least(size, 2)) < 0.005 and size < most:
        size *= 2
    once, four = max(once, 0.001), least(4 * size, 3)
    assert four < 8 * once, f"{size:,} take {once:.4f} s, four times as many {four / once:.1f} times that"


@contextlib.contextmanager
def raises_within(kind: type[BaseException], seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    with pytest.raises(kind):
        yield
    assert time.monotonic() - begin < seconds
