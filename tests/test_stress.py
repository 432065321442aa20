"""The programs of stress/ for a few seconds each: they find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE


@pytest.mark.long
def test_twenty_apps_opened_called_killed_and_closed_at_random_leave_nothing() -> None:
    # A process of its own, in which nothing else is open.
    done = subprocess.run([sys.executable, "-m", "stress.apps", "--seconds", "3", "--threads", "6"],
                          cwd=Path(__file__).parent.parent,
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "all closed" in done.stdout
