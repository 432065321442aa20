"""tests/support/timeouts.py: a test that takes too long fails, and the others run."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.support.modules import ROOT


def run(folder: Path, tests: str) -> str:
    file = folder / "test_late.py"
    file.write_text(textwrap.dedent(tests))
    command = ["pytest", "-c", str(ROOT / "pyproject.toml"), "-n", "0", "-p", "tests.support.timeouts", "--timeout",
               "1", str(file)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.long
def test_a_late_test_fails_and_the_next_one_runs(tmp_path: Path, calls: Path) -> None:
    said = run(tmp_path, f"""
        import threading
        import gothreads

        def test_waits():
            waits = threading.Event()
            threading.Thread(target=waits.wait, name="of the test", daemon=True).start()
            waits.wait()

        def test_spins():
            with gothreads.open({str(calls)!r}) as app:
                app.exports.spin()

        def test_passes():
            pass
    """)
    assert said.splitlines()[-1].startswith("2 failed, 1 passed"), said
    assert said.count("took longer than 1 s") >= 2
    assert "stacks of other threads" in said
    assert "of the test:\n" in said
