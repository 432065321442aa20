"""docs/other-languages.md: the C that is there is built by the command that is there, and is called as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import timeouts
from tests.support.command_line import command
from tests.support.modules import ROOT, zig_environment

DOCUMENT = ROOT / "docs" / "other-languages.md"


def test_the_recipe_for_c_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = DOCUMENT.read_text().split("\n## C\n")[1].split("\n## ")[0]
    (source,) = re.findall(r"```c\n(.*?)```", section, re.DOTALL)
    (lines,) = re.findall(r"```\n(python .*?)```", section, re.DOTALL)
    build, call = (shlex.split(line) for line in lines.splitlines())
    monkeypatch.chdir(tmp_path)
    Path("upper.c").write_text(source)
    with timeouts.paused():  # Zig compiles its libc first, which takes a minute beside other programs
        subprocess.run([sys.executable, *build[1:]], env=os.environ | zig_environment(), check=True)
    assert call[0] == "gothreads"
    assert command(*call[1:]) == (0, "HELLO", "")
    subprocess.run([sys.executable, *(word for word in build[1:] if "--export" not in word)], check=True,
                   env=os.environ | zig_environment())
    code, _, said = command(*call[1:])
    assert code == 1
    assert "exports no malloc(i32) i32 and free(i32)" in said
    assert "-Wl,--export=malloc -Wl,--export=free" in said
