"""What compiling a module says to whoever waits for it."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

import gothreads
from tests.support.modules import built
from tests.support.waiting import PATIENCE, together

OPEN = """if True:
    import sys, gothreads
    from gothreads.output import progress
    progress._SHORT_SECONDS = 0.0
    with gothreads.open(sys.argv[1]) as app:
        print(app.exports.add(1, 2), flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("terminal", [True, False])
def test_somebody_at_a_terminal_is_told_of_a_compilation_that_takes_long(tmp_path: Path, terminal: bool) -> None:
    reads, writes = pty.openpty() if terminal else os.pipe()
    module = built("calls")
    done = subprocess.run([sys.executable, "-c", OPEN, str(module)],
                          env=os.environ | {"GOTHREADS_CACHE": str(tmp_path)},
                          stdout=subprocess.PIPE, stderr=writes, timeout=PATIENCE, text=True)
    os.write(writes, b"the end\n")
    with os.fdopen(reads, "rb", buffering=0) as source:
        said = b""
        while not said.rstrip().endswith(b"the end"):
            said += source.read(4096)
    os.close(writes)
    assert (done.returncode, done.stdout) == (0, "3\n")
    if terminal:
        assert said.startswith(b"\rgothreads: compiling to machine code (once for each build): ")
        assert said.count(b"\n") == 1
    else:  # one line in a log, if the machine is so slow that it takes seconds
        assert re.fullmatch(rb"(gothreads: compiling to machine code \(once for each build\): \d+.* s\n)*the end\n", said)


def test_of_what_takes_no_time_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path))
    small = tmp_path / "small.wasm"
    small.write_bytes(bytes(wasmtime.wat2wasm('(module (func (export "one") (result i32) (i32.const 1)))')))
    with caplog.at_level(logging.INFO, "gothreads"), gothreads.open(small) as app:
        assert app.exports.one() == 1
        assert app.compile_seconds is not None
    assert caplog.records == []


def test_two_apps_that_open_the_same_module_compile_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            caplog: pytest.LogCaptureFixture) -> None:
    module = built("calls")
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path))

    def opens() -> None:
        gothreads.open(module).close()
    with caplog.at_level(logging.INFO, "gothreads"):
        together(opens, opens)
    assert [record.getMessage().startswith("compiled in ") for record in caplog.records].count(True) == 1
