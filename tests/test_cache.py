"""The cache's bound, and emptying it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wasmtime

import gothreads
from gothreads import cache
from gothreads.files import is_kept, keep, kept, locked, seal
from tests.support.command_line import command

Patch = pytest.MonkeyPatch
DAY = 86400.0


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A module that is compiled in no time."""
    path = tmp_path / "tiny.wasm"
    path.write_bytes(wasmtime.wat2wasm("""(module (memory (export "memory") 1)
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.LIMIT, raising=False)
    return tmp_path / "cache"


def kept_file(path: Path, size: int = 1000, age: float = DAY) -> Path:
    """A file in the cache that was last used `age` seconds ago."""
    keep(path, bytes(size))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_was_used_least_recently_goes(folder: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture) -> None:
    files = [kept_file(folder / kind / name, age=age * DAY)
             for kind, name, age in [("compiled", "1", 1), ("compiled", "2", 2), ("compiled", "4", 4),
                                     ("modules", "1", 1.5), ("modules", "3", 3)]]
    monkeypatch.setenv(cache.LIMIT, "3500")
    with caplog.at_level(logging.INFO, "gothreads"):
        assert cache.trim() >= 2000
    assert [path.name for path in files if is_kept(path)] == ["1", "2", "1"]
    assert not [path for path in folder.rglob("*.crc")
                if not path.with_suffix("").exists()], "each checksum goes with its file"
    assert "removed" in caplog.text
    assert cache.trim() == 0


def test_a_use_counts(folder: Path, monkeypatch: Patch) -> None:
    opened, sealed, unused = (kept_file(folder / "compiled" / name) for name in ("opened", "sealed", "unused"))
    with kept(opened) as file:
        assert file is not None
    seal(sealed)
    monkeypatch.setenv(cache.LIMIT, "1")
    cache.trim()
    assert (opened.exists(), sealed.exists(), unused.exists()) == (True, True, False)


def test_what_was_just_used_stays_although_it_is_over_the_bound(folder: Path, monkeypatch: Patch) -> None:
    recent = kept_file(folder / "compiled" / "recent", age=600)
    monkeypatch.setenv(cache.LIMIT, "1")
    assert cache.trim() == 0
    assert is_kept(recent)


def test_a_file_that_is_open_can_be_read_after_it_went(folder: Path, monkeypatch: Patch) -> None:
    path = kept_file(folder / "compiled" / "a")
    monkeypatch.setenv(cache.LIMIT, "1")
    with kept(path) as file:
        assert file is not None
        os.utime(path, (0, 0))
        cache.trim()
        assert not path.exists()
        file.seek(0)
        assert file.read() == bytes(1000)


def test_a_linked_program_stays_while_it_is_built(folder: Path, monkeypatch: Patch) -> None:
    linked = kept_file(folder / "linked" / "id" / "linked.wasm")
    monkeypatch.setenv(cache.LIMIT, "1")
    with locked(linked.parent / "lock"):
        assert cache.trim() == 0
        assert is_kept(linked)
    os.utime(linked, (0, 0))
    assert cache.trim() > 0
    assert not linked.exists()


@pytest.mark.parametrize(("text", "expected"),
                         [(None, 5 << 30), ("", 5 << 30), ("0", None), ("500M", 500 << 20), ("2g", 2 << 30), ("5", 5),
                          ("much", 5 << 30)])
def test_the_bound_is_a_variable(text: str | None, expected: int | None, folder: Path, monkeypatch: Patch,
                                 caplog: pytest.LogCaptureFixture) -> None:
    if text is not None:
        monkeypatch.setenv(cache.LIMIT, text)
    assert cache.limit() == expected
    assert ("much is not a size" in caplog.text) == (text == "much")
    assert ("=5 is 5 bytes. Did you mean 5G?" in caplog.text) == (text == "5")


def test_without_a_bound_nothing_goes(folder: Path, monkeypatch: Patch) -> None:
    path = kept_file(folder / "compiled" / "a")
    monkeypatch.setenv(cache.LIMIT, "0")
    assert cache.trim() == 0
    assert is_kept(path)


def test_opening_a_module_keeps_the_bound(folder: Path, tiny: Path, monkeypatch: Patch) -> None:
    old = kept_file(folder / "compiled" / "old", size=5000)
    monkeypatch.setenv(cache.LIMIT, "1")
    for _ in range(2):
        with gothreads.open(tiny) as app:
            assert app.exports.add(2, 3) == 5
        assert not old.exists()


@pytest.mark.long
def test_many_processes_open_and_remove_at_once(folder: Path, tiny: Path) -> None:
    """Each opens the module while others empty the cache: with the files' ages as they may be, nothing fails."""
    program = """
import gothreads, os, sys, pathlib
from gothreads import cache
for _ in range(50):
    with gothreads.open(sys.argv[1]) as app:
        assert app.exports.add(2, 3) == 5
    for path in pathlib.Path(os.environ["GOTHREADS_CACHE"]).rglob("*.cwasm"):
        try:
            os.utime(path, (0, 0))
        except FileNotFoundError:
            pass
    cache.clean()
"""
    env = os.environ | {"GOTHREADS_CACHE": str(folder)}
    running = [subprocess.Popen([sys.executable, "-c", program, str(tiny)], env=env, stderr=subprocess.PIPE)
               for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0)] * 3


# The command

def test_the_command_shows_the_size_and_the_kinds(folder: Path, monkeypatch: Patch) -> None:
    kept_file(folder / "compiled" / "a", size=2_000_000)
    (folder / "tests").mkdir()
    (folder / "tests" / "x").write_bytes(bytes(500_000))
    code, out, _ = command("cache")
    assert code == 0
    assert f"{folder}: 2.384 MiB, of which 1.907 MiB are in the limit of 5 GiB (GOTHREADS_CACHE_LIMIT)" in out
    assert "1.907 MiB  compiled: machine code, in the limit" in out
    assert "488.3 KiB  other: gothreads' own tools, and what it does not know; they stay" in out
    assert "modules" not in out
    assert "over the limit" not in out
    monkeypatch.setenv(cache.LIMIT, "1M")
    assert "It is over the limit: what was used in the last hour stays" in command("cache")[1]
    assert int(command("cache", "--size")[1]) == cache.contents().size


def test_the_command_empties_the_cache(folder: Path) -> None:
    old, recent = kept_file(folder / "modules" / "old"), kept_file(folder / "modules" / "recent", age=1)
    orphan = folder / "compiled" / "gone.cwasm.crc"
    orphan.parent.mkdir()
    orphan.write_text("x")
    os.utime(orphan, (0, 0))
    about = json.loads(command("cache", "--clean", "--json")[1])
    assert about["removed"] > 1000
    assert about["folder"] == str(folder)
    assert about["kinds"]["compiled"] == 0
    assert (old.exists(), is_kept(recent), orphan.exists()) == (False, True, False)
    said = command("cache", "--clean")[2]
    assert "removed 0 bytes" in said
    assert "this stays: what was used in the last minute (edited files of Go: in the last day)" in said
    assert f"rm -r {folder}." in said
    shutil.rmtree(folder)
    assert "this stays" not in command("cache", "--clean")[2]
