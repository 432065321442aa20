"""Caches that several processes share: files are whole or not there, and the folder is where the user said."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gothreads.errors import GothreadsError
from gothreads.files import cache_folder, is_kept, keep, keep_exactly, locked, making, reason, write_atomically
from tests.support.waiting import PATIENCE, together


def test_a_file_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "file"
    write_atomically(path, b"one")
    write_atomically(path, bytearray(b"two"))
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "any").touch()
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)


def test_a_path_below_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(GothreadsError, match=r"cannot write .*file/below/name: Not a directory"):
        write_atomically(tmp_path / "file" / "below" / "name", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_a_write_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()  # in the way of the rename
    with pytest.raises(GothreadsError, match=r"cannot write .*folder: Is a directory"):
        write_atomically(tmp_path / "folder", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(("number", "words"), [
    (errno.ENOSPC, "No space left on device. Free some space, or use another disk"),
    (errno.EDQUOT, "Disk quota exceeded. Delete files of this user, or use another disk"),
    (errno.EROFS, "Read-only file system. Use a folder on another file system"),
    (errno.EACCES, f"Permission denied for user {pwd.getpwuid(os.geteuid()).pw_name}"),
    (errno.ENOTDIR, "Not a directory"),
])
def test_a_reason_says_what_to_do_about_the_disk(number: int, words: str) -> None:
    assert reason(OSError(number, os.strerror(number))) == words


_WRITES = """
import os, sys
from pathlib import Path
from gothreads.errors import GothreadsError
from gothreads.files import keep, locked, make_folder, write_atomically
disk = Path(sys.argv[1])
def lock():
    with locked(disk / "lock"):
        pass
for call in (lambda: write_atomically(disk / "file", bytes(5000)), lambda: keep(disk / "file", bytes(5000)),
             lambda: make_folder(disk / "folder"), lock):
    try:
        call()
        print("done")
    except GothreadsError as error:
        print(error)
print(sorted(os.listdir(disk)))
"""


@pytest.mark.parametrize(("prepare", "why"), [
    ("head -c 70000 /dev/zero > DISK/rest", "No space left on device. Free some space, or use another disk"),
    ("mount -o remount,ro DISK", "Read-only file system. Use a folder on another file system"),
], ids=["full", "read-only"])
def test_writing_to_a_disk_that_is_full_or_read_only_says_so_and_leaves_nothing(
    tmp_path: Path, prepare: str, why: str
) -> None:
    disk, script = tmp_path / "disk", tmp_path / "writes.py"
    disk.mkdir()
    script.write_text(_WRITES)

    def in_own_mounts(commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", commands], capture_output=True,
                              text=True)
    mount = f"mount -t tmpfs -o size=64k none {disk}"
    if in_own_mounts(mount).returncode:
        pytest.skip("mounting is not permitted")
    done = in_own_mounts(f"{mount} && {{ {prepare.replace('DISK', str(disk))}; {sys.executable} {script} {disk}; }}")
    written, kept, folder, lock, left = done.stdout.splitlines()
    assert written == kept == f"cannot write {disk}/file: {why}"
    if why.startswith("No space"):  # these need none
        assert (folder, lock, left) == ("done", "done", "['folder', 'lock', 'rest']")
    else:
        assert folder == f"cannot make the folder {disk}/folder: {why}"
        assert lock == f"cannot lock {disk}/lock: {why}"
        assert left == "[]"


def test_a_cache_that_this_user_cannot_write_to_is_told_of_the_variable(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(os, "open", refused)
    for write in (keep, keep_exactly):
        with pytest.raises(GothreadsError, match=rf"^cannot write {tmp_path}/file: Permission denied.*\. Set "
                                                 "GOTHREADS_CACHE to a folder that can be written$"):
            write(tmp_path / "file", b"content")


def test_a_name_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GothreadsError, match="File name too long"):
        write_atomically(tmp_path / ("n" * 300), b"x")
    assert list(tmp_path.iterdir()) == []


def test_readers_see_one_of_the_contents_while_many_write(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([65 + i]) * 50_000 for i in range(4)]
    write_atomically(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(50):
            write_atomically(path, content)
            assert path.read_bytes() in contents
    together(*(lambda content=content: write(content) for content in contents))
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most = 0

    def hold() -> None:
        nonlocal most
        for _ in range(100):
            with locked(tmp_path / "lock"):
                inside.append(1)
                most = max(most, len(inside))
                inside.pop()
    together(hold, hold, hold)
    assert most == 1


def test_the_cache_is_where_GOTHREADS_CACHE_says_and_for_this_user_only(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700


def test_a_relative_cache_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOTHREADS_CACHE", "here")
    assert cache_folder() == tmp_path / "here"


@pytest.mark.parametrize("empty", ["", None])
def test_the_cache_is_else_in_XDG_CACHE_HOME_or_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                empty: str | None) -> None:
    for variable in ("GOTHREADS_CACHE", "XDG_CACHE_HOME"):
        if empty is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, empty)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gothreads"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "gothreads"


def test_a_cache_that_cannot_be_made_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GOTHREADS_CACHE", os.fspath(tmp_path / "file" / "cache"))
    with pytest.raises(GothreadsError, match=r"cannot make the cache folder .*Set GOTHREADS_CACHE"):
        cache_folder()


MAKE = """if True:
    import sys, threading
    from pathlib import Path
    from gothreads.files import is_kept, keep, making
    path, made = Path(sys.argv[1]), Path(sys.argv[2])
    def make():
        if is_kept(path):
            return
        with making(path):
            if not is_kept(path):
                with made.open("a") as file:
                    file.write("made\\n")
                keep(path, b"x" * 100_000)
    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_of_several_threads_and_processes_one_makes_a_file(tmp_path: Path) -> None:
    path, made = tmp_path / "compiled" / "file", tmp_path / "made"
    makers = [subprocess.Popen([sys.executable, "-c", MAKE, path, made]) for _ in range(3)]
    assert [maker.wait() for maker in makers] == [0, 0, 0]
    assert made.read_text() == "made\n"
    assert is_kept(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["file", "file.crc", "lock"]


def test_whoever_waits_for_a_maker_says_so_and_others_go_on(tmp_path: Path) -> None:
    path, waits, goes_on = tmp_path / "file", threading.Event(), threading.Event()

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        waits.set()
        yield

    def second() -> None:
        with making(path, waiting()):
            goes_on.set()
    with making(path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(PATIENCE)
        with making(tmp_path / "another"):
            assert not goes_on.is_set()
    thread.join(PATIENCE)
    assert goes_on.is_set()


def test_where_there_can_be_no_lock_a_file_is_made_nevertheless(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with making(tmp_path / "file" / "below" / "name"):
        pass
