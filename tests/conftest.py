"""Shared fixtures: real modules, built once by the real toolchain and kept in gothreads' cache.

The tests run against the installed gothreads: a wheel in site-packages, as users have it, or an editable install. The
sources in this checkout have no compiled extension, and must not shadow it. So the checkout comes last on sys.path,
here (--import-mode=append in pyproject.toml) and in the processes that tests start (`pytest_configure`).
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import gothreads
from gothreads.engine import interrupt
from gothreads.files import cache_folder
from gothreads.version import installed_package
from tests.support import modules, timeouts
from tests.support.alone import Alone
from tests.support.faults import Fault, Measured, markdown
from tests.support.modules import ROOT, built, prepare
from tests.support.waiting import gothreads_threads, wait_until

# Jobs in a shell's background ignore SIGINT and SIGQUIT, those of nohup SIGHUP, and so would all processes that the
# tests start and send signals to.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL),
                        (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

# Otherwise each of the processes that the tests start would compile all sources, which is half of what a start costs.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(cache_folder() / "tests" / "bytecode")

# The modules that the tests share must stay, however long the tests take.
os.environ["GOTHREADS_CACHE_LIMIT"] = "0"

#: Measurements of this session's fault tests.
_MEASURED: pytest.StashKey[list[Measured]] = pytest.StashKey()
#: The folder that the workers share.
_SHARED: pytest.StashKey[str] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", metavar="FILE", type=Path,
                     help="write what the tests of faults have measured there (docs/faults.md)")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if config.getoption("--faults-table") is not None:
        config.option.numprocesses = 0  # measured with nothing beside it, and written by this process


def pytest_configure(config: pytest.Config) -> None:
    measured: list[Measured] = []
    config.stash[_MEASURED] = measured
    config.pluginmanager.register(timeouts)
    modules.outside_timeout = timeouts.paused
    tested, expected = Path(gothreads.__file__).parent, installed_package()
    if expected is None:
        raise pytest.UsageError("gothreads is not installed: pip install '.[test]'")
    if not tested.samefile(expected):
        raise pytest.UsageError(f"this would test {tested}, but {expected} is installed. Run `pytest`: `python -m "
                                "pytest` and PYTHONPATH put this folder before what is installed")
    # Python must not put a process's working folder first; the checkout (tests, stress) follows the installed packages.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(expected.parent), str(ROOT))))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker of pytest-xdist the folder that they share."""
    if _SHARED not in node.config.stash:
        shared = tempfile.TemporaryDirectory(prefix="gothreads-tests-")
        node.config.stash[_SHARED] = shared.name
        node.config.add_cleanup(shared.cleanup)
    node.workerinput["shared"] = node.config.stash[_SHARED]


def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker: wait for tests that run alone. In the process that prints: build what the tests need."""
    if (worker := getattr(session.config, "workerinput", None)) is not None:
        session.config.pluginmanager.register(Alone(Path(worker["shared"])))
    elif not session.config.option.collectonly:
        terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        named = [Path(session.config.invocation_params.dir, argument.partition("::")[0])
                 for argument in session.config.args]
        if missing := [str(place) for place in named if not place.exists()]:  # pytest-xdist does not say it
            raise pytest.UsageError(f"there is no {', '.join(missing)}")
        prepare(named, terminal.write_line, long=session.config.option.markexpr != "not long")


def pytest_collection_finish() -> None:
    # The objects that exist now (all tests and their imports) stay to the end. Freezing them spares `nothing_left` from
    # scanning them twice per test, which takes 0.1 seconds each time.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    if (file := session.config.getoption("--faults-table")) is not None and exitstatus == 0:
        measured: list[Measured] = session.config.stash[_MEASURED]
        file.write_text(markdown(measured))
    try:
        return (yield)  # which tears down what Ctrl-C has interrupted
    except Exception:
        if exitstatus != pytest.ExitCode.INTERRUPTED:
            raise
        return None  # the summary follows


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, Fault, int, float], None]:
    """A function that records a measurement: the table's section, the fault, the number of callers, seconds."""
    def note(section: str, fault: Fault, callers: int, seconds: float) -> None:
        request.config.stash[_MEASURED].append(Measured(section, fault, callers, seconds))
    return note


@pytest.fixture(scope="session")
def calls() -> Path:
    """The threaded module `calls`."""
    return built("calls")


@pytest.fixture(scope="session")
def calls_single() -> Path:
    """The same program, built with stock Go."""
    return built("calls", model="single")


@pytest.fixture
def app(calls: Path) -> Iterator[gothreads.App]:
    """A running `calls`, for this test only."""
    with gothreads.open(calls, trust=True, stderr=io.BytesIO()) as running:
        yield running


@pytest.fixture
def patient_host(tmp_path: Path) -> Path:
    """A Python file with the host functions that `patient` imports."""
    path = tmp_path / "host.py"
    path.write_text("import gothreads\nhost = gothreads.Host()\n\n@host.function('env')\ndef call_again(n: int) -> "
                    "int:\n    return n\n")
    return path


@pytest.fixture
def nothing_left(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """Assert that the test leaves no threads, descriptors or log records (caplog.clear() removes expected records)."""
    interrupt.watch()  # starts a thread and a pipe, which stay
    gc.collect()
    process = psutil.Process()
    before = process.num_fds()
    yield
    if request.session.exitstatus == pytest.ExitCode.INTERRUPTED:
        return  # Ctrl-C, in the middle of the test
    wait_until(lambda: not gothreads_threads(), left=gothreads_threads)

    def closed() -> bool:
        gc.collect()
        return process.num_fds() <= before
    # A thread lets go of its last objects, and what they hold, when it is no longer among the threads.
    wait_until(closed, left=lambda: f"{process.num_fds()} descriptors are open, {before} were")
    assert [record.getMessage() for record in caplog.records] == []


def assert_linear(make: Callable[[int], Any], run: Callable[[Any], object], begin: int = 1000,
                  most: int = 16_000) -> None:
    """Fail unless the CPU time of `run(make(n))` grows linearly with n.

    Sixteen times n may take up to 64 times as long, for what no longer fits into the processor's caches; a quadratic
    algorithm takes 256 times as long. n is doubled from `begin` until a run takes 5 ms, so that fixed costs do not
    matter, but not beyond `most`, at which a quadratic algorithm takes much longer than that. The shortest of a few
    runs counts, as other threads and processes can only add time. Nor does the collection of garbage count, which looks
    at what earlier tests have left too.
    """
    def least(size: int, runs: int) -> float:
        times = []
        for _ in range(runs):
            given = make(size)
            gc.disable()
            try:
                started = time.thread_time()
                run(given)
                times.append(time.thread_time() - started)
            finally:
                gc.enable()
        return min(times)
    size = begin
    while (once := least(size, 2)) < 0.005 and size < most:
        size *= 2
    once, many = max(once, 0.001), least(16 * size, 3)
    assert many < 64 * once, f"{size:,} take {once:.4f} s, sixteen times as many {many / once:.1f} times that"
