"""Runs tests that are marked `alone` while no other worker of pytest-xdist runs a test: a plugin.

Each test holds one lock file: `alone` exclusively, others shared. Whoever wants a lock first takes a turn, another lock
file, and gives it back when it has the lock; so a test that is alone waits only for the tests that run now, not for
those that begin meanwhile. (Waiting does not count against the test's timeout.)
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from pathlib import Path

import pytest


class Alone:
    """The plugin of one worker. folder: the same for all workers of a run."""

    def __init__(self, folder: Path) -> None:
        self._turn, self._lock = (folder / name for name in ("turn", "lock"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        alone = item.get_closest_marker("alone") is not None
        with self._lock.open("ab") as lock:
            with self._turn.open("ab") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            return (yield)
