"""The cache after a power cut: whatever is damaged there is made again. And nobody else may write there."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gothreads
from gothreads.errors import GothreadsError
from gothreads.files import cache_folder, is_kept, keep, keep_exactly, kept, seal, write_atomically
from tests.support.modules import MODULES

PAGE = 4096
CONTENT = bytes(range(256)) * 1024


Patch = pytest.MonkeyPatch
Log = pytest.LogCaptureFixture
Damage = Callable[[bytes], bytes]


# Places are parts of the length.

def truncated(part: float) -> Damage:
    return lambda content: content[:int(len(content) * part)]


def zeros(part: float) -> Damage:
    def damage(content: bytes) -> bytes:
        at = int(len(content) * part) // PAGE * PAGE
        return content[:at] + bytes(len(content[at:at + PAGE])) + content[at + PAGE:]
    return damage


def flipped(part: float) -> Damage:
    def damage(content: bytes) -> bytes:
        at = int((len(content) - 1) * part)
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1:]
    return damage


#: What may become of a file.
DAMAGES: dict[str, Damage] = {
    "empty": lambda content: b"",
    **{f"truncated at {part:.0%}": truncated(part) for part in (0.01, 0.5, 0.99)},
    **{f"a page of zeros at {part:.0%}": zeros(part) for part in (0, 0.3, 0.6)},
    **{f"a bit at {part:.0%}": flipped(part) for part in (0, 0.2, 0.5, 1)},
    "longer": lambda content: content + bytes(PAGE),
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_there_and_the_log_says_so(tmp_path: Path, caplog: Log, damage: Damage) -> None:
    path = tmp_path / "file"
    keep(path, CONTENT)
    with kept(path) as file:
        assert file is not None
    assert not caplog.records
    path.write_bytes(damage(CONTENT))
    assert not is_kept(path)
    assert "file in the cache is damaged, and is made again" in caplog.text
    keep_exactly(path, CONTENT)
    assert is_kept(path)


def test_what_go_reads_looks_settled_and_stays_so(tmp_path: Path) -> None:
    """Or Go does not index it, and Go 1.25 does not find it in an overlay."""
    path = tmp_path / "file.go"
    keep_exactly(path, CONTENT)
    written = path.stat().st_mtime
    assert 2 < time.time() - written < 3600
    keep_exactly(path, CONTENT)
    assert path.stat().st_mtime == written
    os.utime(path, (written - 3600, written - 3600))
    keep_exactly(path, CONTENT)
    assert path.stat().st_mtime >= written


@pytest.mark.parametrize("damage", [*DAMAGES.values(), None])
def test_a_damaged_checksum_is_damage(tmp_path: Path, damage: Damage | None) -> None:
    path = tmp_path / "file"
    keep(path, CONTENT)
    checksum = tmp_path / "file.crc"
    if damage is None:
        checksum.unlink()
    else:
        checksum.write_bytes(damage(checksum.read_bytes()))
    assert not is_kept(path)


def test_what_another_program_has_written_is_kept_as_it_was_then(tmp_path: Path, caplog: Log) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"one", b"two"):
        path.write_bytes(content)
        path.chmod(0o775)
        seal(path)
        assert is_kept(path)
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
    assert not caplog.records


MACHINE_CODE = """
import logging, sys
from pathlib import Path
import gothreads, wasmtime
from tests.test_cache_damage import DAMAGES

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("gothreads").addHandler(handler)
folder = Path(sys.argv[1])
many = "".join(f'(func (export "f{i}") (param i32) (result i32) (i32.mul (local.get 0) (i32.const {i})))'
               for i in range(200))
(folder / "app.wasm").write_bytes(wasmtime.wat2wasm(f"(module {many})"))
for name, damage in DAMAGES.items():
    with gothreads.open(folder / "app.wasm") as app:
        assert not said, said
        assert app.exports.f199(2) == 398
    (code,) = (folder / "cache" / "compiled").glob("*.cwasm")
    code.write_bytes(damage(code.read_bytes()))
    with gothreads.open(folder / "app.wasm") as app:
        assert app.exports.f199(2) == 398, name
    assert said == [f"{code.name} in the cache is damaged, and is made again"], (name, said)
    said.clear()
print("all right")
"""


@pytest.mark.long
def test_damaged_machine_code_is_never_run(tmp_path: Path) -> None:
    """In a process of its own: it dies otherwise."""
    environment = os.environ | {"GOTHREADS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", MACHINE_CODE, str(tmp_path)], env=environment,
                          cwd=MODULES.parent.parent,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "all right\n"), done.stderr


@pytest.mark.long
def test_a_build_finds_whatever_is_damaged_and_makes_it_again(tmp_path: Path, monkeypatch: Patch,
                                                              caplog: Log) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("GOTHREADS_CACHE", str(cache))

    def run() -> None:
        with gothreads.open(MODULES / "calls") as app:
            assert app.exports.add(2, 3) == 5
    run()
    files = {path: path.read_bytes() for path in cache.rglob("*")
             if path.is_file() and path.name not in ("lock", "compile-speed") and path.suffix != ".crc"}
    kinds = {path.relative_to(cache).parts[0].partition("-")[0] for path in files}
    assert kinds == {"compiled", "modules", "linked", "overlay"}
    damage = DAMAGES["a page of zeros at 30%"]
    for path, content in files.items():
        path.write_bytes(damage(content))
    damaged = {path.name for path, content in files.items() if path.read_bytes() != content}
    caplog.clear()
    run()
    assert {record.getMessage().split()[0] for record in caplog.records if "damaged" in record.getMessage()} == damaged
    assert all(path.read_bytes() == content for path, content in files.items() if path.parent.name == "overlay")


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: Patch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        about = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(about.st_mode) else f"file of {about.st_size}")
        sync(descriptor)

    def renamed(old: Path, new: Path) -> None:
        done.append("name")
        rename(old, new)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(tmp_path / "file", CONTENT)
    assert done == [f"file of {len(CONTENT)}", "name", "folder"]


def test_the_umask_of_the_process_is_left_alone(tmp_path: Path, monkeypatch: Patch) -> None:
    """It is all threads': what another creates at that moment would be anybody's to write."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is changed"))
            write_atomically(tmp_path / "file", b"")
            keep(tmp_path / "kept", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600


def not_mine(path: Path, patch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        patch.setattr(os, "geteuid", lambda: 12345)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, monkeypatch: Patch, mode: int) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(GothreadsError,
                       match=r"other users can write to .*/cache \(its mode is \d+\).*chmod go-w .*/cache"):
        cache_folder()
    (tmp_path / "cache").chmod(0o755)
    assert cache_folder() == tmp_path / "cache"


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "cache").mkdir(0o700)
    (tmp_path / "link").symlink_to("cache")
    not_mine(tmp_path / "cache", monkeypatch)
    for name in ("cache", "link"):
        monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / name))
        with pytest.raises(GothreadsError, match=r"/cache belongs to .*Set GOTHREADS_CACHE to a folder of this user's"):
            cache_folder()


def test_a_file_of_somebody_elses_is_not_used(tmp_path: Path, monkeypatch: Patch, caplog: Log) -> None:
    keep(tmp_path / "file", CONTENT)
    (tmp_path / "file").chmod(0o620)
    assert not is_kept(tmp_path / "file")
    (tmp_path / "file").chmod(0o600)
    assert is_kept(tmp_path / "file")
    not_mine(tmp_path / "file", monkeypatch)
    assert not is_kept(tmp_path / "file")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_links_that_go_round_are_an_error(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "a"))
    with pytest.raises(GothreadsError, match="cannot make the cache folder"):
        cache_folder()
