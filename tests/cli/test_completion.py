"""`gothreads completion`: in a real bash, Tab completes commands, options, their values and file names."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import command


class Bash:
    """An interactive bash on a terminal, in which `gothreads` prints its arguments."""

    def __init__(self, folder: Path, script: Path) -> None:
        self._terminal, theirs = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "", "HOME": str(folder),
                       "INPUTRC": "/dev/null"}
        self._process = subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], stdin=theirs, stdout=theirs,
                                         stderr=theirs, cwd=folder,
                                         env=environment, start_new_session=True)
        os.close(theirs)
        # What is typed is echoed: only output has the two parts in one.
        self._type(f"source {script}; gothreads() {{ printf '[%s]' 'args' \"$@\"; echo end'ed'; }}; echo rea'dy'\n")
        self._read("ready")

    def arguments(self, typed: str) -> list[str]:
        """The arguments that gothreads gets when this is typed."""
        self._type(f"gothreads {typed}\n")
        output = self._read("ended")
        return output[output.index("[args]") + len("[args]"):output.index("ended")].strip("[]").split("][")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, end: str) -> str:
        output = ""
        while end not in output:
            assert select.select([self._terminal], [], [], 60)[0], output
            output += os.read(self._terminal, 65536).decode()
        return output


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Bash]:
    code, out, err = command("completion", "bash")
    assert (code, err) == (0, "")
    (tmp_path / "script").write_text(out)
    (tmp_path / "application.wasm").write_bytes(b"")
    (tmp_path / "sources").mkdir()
    running = Bash(tmp_path, tmp_path / "script")
    yield running
    running.close()


def test_tab_completes_in_bash(bash: Bash) -> None:
    assert bash.arguments("doc\t--js\t") == ["doctor", "--json"]
    assert bash.arguments("-q run --rest\t al\t --no-m\t appl\t") == ["-q", "run", "--restart", "always",
                                                                      "--no-mount-args", "application.wasm"]
    assert bash.arguments("build --mod\t si\t sou\t") == ["build", "--model", "single", "sources/"]
    assert bash.arguments("init sou\t") == ["init", "sources/"]


@pytest.mark.parametrize(("shell", "line"), [("zsh", "#compdef gothreads"), ("tcsh", "complete gothreads ")])
def test_other_shells_have_a_script(shell: str, line: str) -> None:
    code, out, err = command("completion", shell)
    assert (code, err) == (0, "")
    assert any(text.startswith(line) for text in out.splitlines())
