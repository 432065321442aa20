"""Files as a Go program sees them: operations on mounted folders, the sandbox, blocking calls (tests/modules/files)."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads import Mount
from gothreads.engine import extension
from gothreads.wasi import openat
from gothreads.wasi.calls.fd import FdCalls
from gothreads.wasi.calls.path import PathCalls
from tests.support.calls_of_python import count_calls
from tests.support.files_program import Go, GoError
from tests.support.modules import built
from tests.support.waiting import PATIENCE, together, under_load

SECRET = "the secret"
NAMES = ["a b", " leading", "größe", "日本語.txt", "👍", "-rf", "new\nline", "back\\slash", "...", "n" * 255, "ü" * 127]


@contextlib.contextmanager
def opened(mounts: Any, host: Path, **options: Any) -> Iterator[Go]:
    with gothreads.open(built("files"), mounts=mounts, procs=4, **options) as app:
        yield Go(app, host)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Go]]:
    """One app for all tests that do not end it."""
    host, running = tmp_path_factory.mktemp("mount"), list[gothreads.App]()

    def current() -> Go:
        if not running or running[-1].state is not gothreads.State.RUNNING:
            running.append(gothreads.open(built("files"), mounts={"/m": host}, procs=4, stderr=io.BytesIO()))
        return Go(running[-1], host)
    yield current
    for app in running:
        app.close()


@pytest.fixture
def go(shared: Callable[[], Go], tmp_path: Path) -> Go:
    """The shared app, with a separate folder for this test as its working folder."""
    made = shared()
    (made.host / tmp_path.name).mkdir()
    made("chdir", f"/m/{tmp_path.name}")
    return Go(made.app, made.host / tmp_path.name)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Go]:
    """An app for this test only."""
    (tmp_path / "mount").mkdir()
    with opened({"/m": tmp_path / "mount"}, tmp_path / "mount") as made:
        yield made


@pytest.fixture(params=["os", "os.Root"])
def tree(go: Go, request: pytest.FixtureRequest) -> Go:
    """The same operations through package os, and through os.Root."""
    return Go(go.app, go.host, f"/m/{go.host.name}" if request.param == "os.Root" else "")


def state(folder: Path) -> dict[str, object]:
    """The contents and metadata of a folder, for comparison."""
    def one(path: Path) -> object:
        what = (
            path.readlink()
            if path.is_symlink()
            else sorted(p.name for p in path.iterdir())
            if path.is_dir()
            else path.read_bytes()
        )
        return what, path.lstat().st_mtime_ns, path.lstat().st_nlink
    return {str(path): one(path) for path in [folder, *folder.rglob("*")]}


def test_what_is_written_is_read_on_both_sides(tree: Go) -> None:
    for name in NAMES:
        content = f"{name} äöü\0\n" * 100
        tree("write", name, content)
        assert (tree.host / name).read_bytes() == content.encode()
        assert tree("read", name) == content
        assert tree("stat", name)["size"] == len(content.encode())
    assert sorted(tree("readdir", ".")) == sorted("-" + name for name in NAMES)
    tree("write", "large", "x" * 3_000_000)
    assert (tree.host / "large").read_bytes() == b"x" * 3_000_000
    (tree.host / "large").write_bytes(b"y" * 2_999_999)
    assert tree("read", "large") == "y" * 2_999_999
    tree("write", "large", "")
    assert (tree.host / "large").stat().st_size == 0
    assert (tree.host / "large").stat().st_mode & 0o111 == 0


def test_an_open_file_is_read_written_and_truncated_anywhere(tree: Go) -> None:
    f = tree("open", "f", "RDWR|CREATE|EXCL")
    assert tree("f.write", f, "0123456789") == 10
    assert [tree("f.seek", f, *where) for where in [(2, 0), (3, 1), (-1, 2)]] == [2, 5, 9]
    assert tree("f.read", f, 10) == "9"
    tree.fails("EOF", "f.read", f, 10)
    assert tree("f.readat", f, 3, 4) == "456"
    assert tree.fails("EOF", "f.readat", f, 5, 8) == "89"
    assert tree("f.writeat", f, "AB", 12) == 2
    assert tree("f.seek", f, 0, 1) == 10  # ReadAt and WriteAt do not move the offset
    assert (tree.host / "f").read_bytes() == b"0123456789\0\0AB"
    tree("f.truncate", f, 5)
    assert tree("f.stat", f)["size"] == 5
    tree("f.truncate", f, 7)
    tree("f.sync", f)
    assert (tree.host / "f").read_bytes() == b"01234\0\0"
    tree("remove", "f")
    assert tree("f.readat", f, 5, 0) == "01234"  # an open file survives its removal
    tree.fails("EINVAL", "f.seek", f, -1, 0)
    tree.fails("EINVAL", "f.seek", f, -8, 2)
    tree.fails("EINVAL", "f.truncate", f, -1)
    tree.fails("EFBIG|EINVAL", "f.truncate", f, 2**63 - 1)
    tree.fails("EFBIG|EINVAL", "f.writeat", f, "x", 2**63 - 1)
    tree("f.close", f)


def test_the_ways_to_open_a_file(tree: Go) -> None:
    tree("write", "f", "text")
    tree.fails("EEXIST", "open", "f", "RDWR|CREATE|EXCL")
    tree.fails("ENOENT", "open", "none", "RDWR")
    reading = tree("open", "f", "RDONLY")
    tree.refuses(("f.write", reading, "x"), ("f.truncate", reading, 0), ("f.writeat", reading, "x", 0),
                 ("f.read", tree("open", "f", "WRONLY"), 1))
    assert tree("read", "f") == "text"
    appending = tree("open", "f", "WRONLY|APPEND")
    tree("f.seek", appending, 0, 0)
    tree("f.write", appending, "+")
    assert tree("read", "f") == "text+"
    tree("open", "f", "RDWR|TRUNC")
    assert (tree.host / "f").read_bytes() == b""


def test_stat_is_what_the_host_says(tree: Go) -> None:
    (tree.host / "dir").mkdir()
    (tree.host / "file").write_bytes(b"12345")
    os.link(tree.host / "file", tree.host / "other")
    (tree.host / "link").symlink_to("file")
    os.utime(tree.host / "file", ns=(1, 1_234_567_890_123_456_789))
    for name, mode in {"dir": "d", "file": "-", "link": "L"}.items():
        said, host = tree("lstat", name), (tree.host / name).lstat()
        assert (said["name"], said["mode"][0], said["mtime"]) == (name, mode, host.st_mtime_ns)
        assert said["links"] == host.st_nlink
        assert mode == "d" or said["size"] == host.st_size
    assert tree("stat", "link") == tree("stat", "file") | {"name": "link"}
    assert tree("same", "file", "other")
    assert tree("same", "link", "other")
    assert not tree("same", "file", "dir")
    assert sorted(tree("readdir", ".")) == ["-file", "-other", "Llink", "ddir"]


def test_times_are_set_and_a_zero_time_leaves_one_alone(tree: Go) -> None:
    file = tree.host / "f"
    file.touch()
    tree("chtimes", "f", 1_600_000_000_123_456_789, 1_700_000_000_000_000_001)
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (1_600_000_000_123_456_789, 1_700_000_000_000_000_001)
    tree("chtimes", "f", 0, 5)
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (1_600_000_000_123_456_789, 5)
    tree("chtimes", "f", 6, 0)
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (6, 5)
    tree.fails("ENOENT", "chtimes", "none", 1, 1)


def test_folders_are_made_walked_and_removed(tree: Go) -> None:
    tree("mkdir", "d")
    tree("mkdirall", "d/e/f/g")
    tree("mkdirall", "d/e")
    for n in range(120):
        tree("write", f"d/e/{n}", "")
    assert tree("walk", "d") == ["d", "d/e", *sorted(f"d/e/{n}" for n in range(120)), "d/e/f", "d/e/f/g"]
    tree.fails("EEXIST", "mkdir", "d")
    tree.fails("ENOENT", "mkdir", "x/y")
    tree.fails("ENOTEMPTY", "remove", "d/e")
    tree("remove", "d/e/f/g")
    (tree.host / "kept").write_text("kept")
    tree("symlink", "../kept", "d/link")
    tree("removeall", "d")
    tree("removeall", "d")
    assert [p.name for p in tree.host.iterdir()] == ["kept"]


def test_renaming(tree: Go) -> None:
    tree("mkdirall", "d/e")
    tree("mkdir", "empty")
    tree("write", "a", "a")
    tree("write", "b", "b")
    tree("rename", "a", "b")
    assert tree("read", "b") == "a"
    tree.fails("ENOENT", "rename", "a", "c")
    tree.fails("EISDIR|EEXIST", "rename", "b", "d")
    tree.fails("ENOTDIR", "rename", "d", "b")
    tree.fails("ENOTEMPTY|EEXIST", "rename", "empty", "d")
    tree.fails("EINVAL", "rename", "d", "d/e/below")
    tree("rename", "b", "d/e/b")
    tree("rename", "d", "moved")
    assert tree("walk", ".") == [".", "empty", "moved", "moved/e", "moved/e/b"]


def test_links(tree: Go) -> None:
    tree("mkdir", "d")
    tree("write", "d/file", "text")
    tree("link", "d/file", "hard")
    tree("symlink", "../hard", "d/soft")
    tree("symlink", "d", "folder")
    tree("symlink", "nowhere", "dangling")
    assert tree("stat", "hard")["links"] == 2
    assert tree("read", "folder/soft") == "text"
    assert [tree("readlink", name) for name in ("d/soft", "folder", "dangling")] == ["../hard", "d", "nowhere"]
    assert (tree.host / "d" / "soft").readlink() == Path("../hard")
    tree("write", "folder/soft", "changed")
    assert (tree.host / "hard").read_text() == "changed"
    tree.fails("ENOENT", "read", "dangling")
    tree.fails("EEXIST", "symlink", "x", "dangling")
    tree.fails("EEXIST", "link", "hard", "d/file")
    tree.fails("EINVAL", "readlink", "hard")
    tree.fails("EEXIST", "open", "dangling", "RDWR|CREATE|EXCL")
    tree("write", "dangling", "made")
    assert tree("read", "nowhere") == "made"
    long = "/".join(["d/.."] * 500) + "/d/file"
    (tree.host / "long").symlink_to(long)
    assert tree("readlink", "long") == long
    tree("remove", "folder")
    assert tree("read", "d/file") == "changed"


def test_trailing_slashes(go: Go) -> None:
    go("mkdir", "d")
    go("symlink", "d", "link")
    go("write", "file", "")
    go("symlink", "file", "tofile")
    assert [go("lstat", name)["mode"][0] for name in ("d/", "link", "link/")] == ["d", "L", "d"]
    assert go("readdir", "link/.") == []
    for name in ("file/", "tofile/"):
        go.fails("ENOTDIR", "open", name, "RDONLY")
        go.fails("ENOTDIR", "lstat", name)
    go.fails("EISDIR|EINVAL|ENOENT|ENOTDIR", "open", "new/", "RDWR|CREATE")
    assert not (go.host / "new").exists()
    go("mkdir", "new/")
    assert (go.host / "new").is_dir()


def test_errors_have_the_values_that_programs_look_for(tree: Go) -> None:
    tree("write", "file", "")
    tree("mkdir", "d")
    (tree.host / "loop").symlink_to("pool")
    (tree.host / "pool").symlink_to("loop")
    for op in ("read", "stat", "lstat", "remove", "readlink", "readdir"):
        tree.fails("ErrNotExist", op, "none")
        tree.fails("ENOENT", op, "none/below")
        tree.fails("ENOTDIR", op, "file/below")
        tree.fails("ENAMETOOLONG", op, "n" * 256)
    for op in ("read", "stat", "remove", "readlink"):
        tree.fails("EINVAL", op, "nul\0nul")
    tree.fails("EISDIR", "write", "d", "")
    tree.fails("ErrExist", "mkdir", "file")
    tree.fails("ENAMETOOLONG", "mkdir", "n" * 256)
    tree.fails("EINVAL", "write", "nul\0nul", "")
    with pytest.raises(GoError, match="ELOOP|too many"):
        tree("read", "loop")
    assert sorted(p.name for p in tree.host.iterdir()) == ["d", "file", "loop", "pool"]


def test_a_folder_is_not_read_as_a_file_nor_a_file_as_a_folder(tree: Go) -> None:
    tree("mkdir", "d")
    tree.fails("EISDIR", "read", "d")
    tree("write", "file", "")
    tree.fails("ENOTDIR", "readdir", "file")


def test_a_file_is_opened_for_synchronous_writes(tree: Go) -> None:
    f = tree("open", "f", "RDWR|CREATE|SYNC")
    tree("f.write", f, "text")
    assert (tree.host / "f").read_text() == "text"


def test_a_wrong_whence_is_an_error(go: Go) -> None:
    go.fails("EINVAL", "f.seek", go("open", "f", "RDWR|CREATE"), 0, 7)


def test_a_name_or_time_that_cannot_be_is_an_error_and_the_module_goes_on(go: Go) -> None:
    (go.host / os.fsdecode(b"not UTF-8: \xfe")).touch()
    with contextlib.suppress(GoError):
        go("invalid")
    with contextlib.suppress(GoError):
        go("readdir", ".")
    with contextlib.suppress(GoError):
        go("raw.times", 3, 1, ".", -1)
    f = go("open", "f", "RDWR|CREATE")
    for where, size in itertools.product((0, -1, 2**63 - 1), repeat=2):
        with contextlib.suppress(GoError):
            go("f.allocate", f, where, size)
    for name in ("", "/", "//", "n" * 5000, "n/" * 50_000):
        with contextlib.suppress(GoError):
            go("raw.open", 3, 1, name, 0)
        with contextlib.suppress(GoError):
            go("raw.mkdir", 3, name)
    go("write", "f", "on it goes")
    assert go("read", "f") == "on it goes"


@pytest.mark.parametrize("where", ["name", "vectors", "buffer", "result"])
def test_a_wild_pointer_is_an_error_or_a_trap(go: Go, where: str) -> None:
    go("write", "f", "text")
    with pytest.raises((GoError, gothreads.GuestTrap)):
        go("wild", where)
    assert (go.host / "f").read_text() == "text"


def test_a_folder_of_5000_files_is_listed(go: Go) -> None:
    names = {f"file {n} λόγος" for n in range(5000)}
    for name in names:
        (go.host / name).touch()
    assert {name[1:] for name in go("readdir", ".")} == names
    f = go("open", ".", "RDONLY")
    found = [name for _ in range(10) for name in go("f.readdir", f, 500)]
    go.fails("EOF", "f.readdir", f, 1)
    assert len(found) == 5000
    assert {name[1:] for name in found} == names
    go("f.seek", f, 0, 0)
    assert sorted(go("f.readdir", f, -1)) == sorted(found)


def test_a_folder_that_changes_while_it_is_read_shows_what_stays_once(go: Go) -> None:
    (go.host / "d").mkdir()
    names = [f"stays {n}" for n in range(1500)]
    for name in names:
        (go.host / "d" / name).touch()
    assert sorted(name for name in go("list while changing", "d") if name.startswith("stays")) == sorted(names)


@pytest.mark.skipif(extension.compiled is None or openat.lookup is not openat.open_with_openat2,
                    reason="without C, or without openat2")
def test_files_are_made_listed_renamed_and_removed_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    count_calls(monkeypatch, PathCalls, ("path_open", "path_create_directory", "path_remove_directory",
                                         "path_unlink_file", "path_rename", "path_filestat_get"), asked)
    count_calls(monkeypatch, FdCalls, ("fd_readdir", "fd_filestat_get", "fd_close"), asked)
    with opened({"/m": tmp_path}, tmp_path) as go:
        asked.clear()
        go("mkdirall", "d/e")
        go("write", "d/e/f", "text")
        go("rename", "d/e/f", "d/g")
        assert go("walk", ".") == [".", "d", "d/e", "d/g"]
        go("remove", "d/g")
        go("removeall", "d")
        assert asked == []
        for number in range(500):  # more than a module's buffer holds: the listing is kept while it is read in parts
            (tmp_path / f"file {number}").touch()
        assert len(go("readdir", ".")) == 500
        assert set(asked) == {"fd_readdir", "fd_close"}


def test_a_listing_is_read_anew_from_its_beginning(tree: Go) -> None:
    tree("write", "first", "")
    folder = tree("open", ".", "RDONLY")
    assert tree("f.readdir", folder, -1) == ["-first"]
    assert tree("f.readdir", folder, -1) == []
    (tree.host / "second").touch()
    assert tree("f.readdir", folder, -1) == []
    tree("f.seek", folder, 0, 0)
    assert sorted(tree("f.readdir", folder, -1)) == ["-first", "-second"]


def test_temporary_files_and_folders_have_names_of_their_own(go: Go) -> None:
    made = [go(op, ".", "a*b") for op in ["createtemp", "mkdirtemp"] * 20]
    assert {name.removeprefix("./") for name in made} == {p.name for p in go.host.iterdir()}
    assert sum(p.is_dir() for p in go.host.iterdir()) == 20


def test_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with opened({"/": tmp_path}, tmp_path, env={"PWD": "/etc"}) as go:
        go("write", "a", "in etc")
        assert go("read", "/etc/../etc/a") == "in etc"
        go("chdir", "..")
        assert go("getwd") == "/"
        assert go("read", "etc/a") == "in etc"
        go("truncate", "etc/a", 2)
        assert (tmp_path / "etc" / "a").read_text() == "in"
        go.fails("ENOTDIR", "chdir", "etc/a")
        go.fails("ENOENT", "chdir", "none")
        go.fails("ErrNotExist", "read", "/etc/passwd")
    with opened({}, tmp_path) as go:
        assert (go("getwd"), go("readdir", "."), go("stat", ".")["mode"]) == ("/", [], "drwx------")


@pytest.fixture(params=["open_with_openat2", "open_part_by_part"])
def lookup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path lookup by the kernel (openat2), and in steps, as where openat2 is missing."""
    monkeypatch.setattr(openat, "lookup", getattr(openat, request.param))


@pytest.fixture
def hostile(tmp_path: Path, lookup: None) -> Iterator[Go]:
    """A mount with links that lead outside, which must not work; the folder outside must not be seen or changed."""
    mount, outside = tmp_path / "mount", tmp_path / "outside"
    (mount / "inside").mkdir(parents=True)
    (mount / "f").write_text("inside")
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    (outside / "empty").mkdir()
    for name, target in {"out": "../outside/secret", "outdir": "../outside", "absolute": outside / "secret",
                         "absolutedir": outside, "root": "/",
                         "up": "..", "chain": "inside/next", "inside/next": "../out", "inside/up": "../..",
                         "dangling": "../outside/new",
                         "own": mount / "f", "guest": "/m/f"}.items():
        (mount / name).symlink_to(str(target))
    with opened({"/m": mount}, mount) as made:
        yield made


OUT = ["..", "../", "../outside", "up", "up/", "up/.", "inside/..//..", "inside/../../mount/..", "inside/up",
       "inside/up/", "absolutedir", "absolutedir/",
       "outdir", "outdir/", "outdir/.", "outdir/empty", "outdir/..", "./../outside", "/", "root", "root/", "root/etc",
       "inside/up/outside/empty/"]
SECRETS = ["../outside/secret", "outdir/secret", "out", "absolute", "absolutedir/secret", "chain", "inside/next",
           "up/outside/secret",
           "inside/up/outside/secret", "inside/../up/outside/./secret", "dangling", "own", "guest", "/etc/passwd",
           "../mount/f"]


def test_no_path_or_link_leads_out_of_a_mount(hostile: Go) -> None:
    outside = hostile.host.parent / "outside"
    before, own = state(outside), state(hostile.host).keys()
    assert hostile("raw.open", 3, 1, "inside/..//./f", 0) == "inside"
    for op, *args in [("mkdir", 3, "inside/../d"), ("rmdir", 3, "d"), ("symlink", "../f", 3, "inside/l"),
                      ("link", 3, "f", 3, "g"),
                      ("rename", 3, "g", 3, "inside/g"), ("times", 3, 1, "inside/l", 0), ("stat", 3, 1, "inside/l"),
                      ("unlink", 3, "inside/l"),
                      ("unlink", 3, "inside/g"), ("readlink", 3, "out")]:
        hostile(f"raw.{op}", *args)
    for follow, path in itertools.product((1, 0), OUT + SECRETS):
        # 0, 1, 2, 8, 9: to read, creating, as a folder, truncating, creating and truncating.
        hostile.refuses(*(("raw.open", 3, follow, path, how) for how in (0, 1, 2, 8, 9)))
        if follow or path.endswith(("/", ".")) or not hostile.host.joinpath(path).is_symlink():
            hostile.refuses(("raw.stat", 3, follow, path), ("raw.times", 3, follow, path, 0))
    for path in OUT:
        new = path.rstrip("/") + "/new"
        hostile.refuses(*((f"raw.{op}", 3, "f", 3, new) for op in ("rename", "link", "linkto")), ("raw.mkdir", 3, new),
                        ("raw.symlink", "x", 3, new),
                        *((f"raw.{op}", 3, f"{path}/{name}")
                          for op, name in (("unlink", "secret"), ("rmdir", "empty"), ("readlink", "secret"))))
    hostile.refuses(*((f"raw.{op}", 3, name, 3, "dangling/")
                      for op, name in (("rename", "f"), ("rename", "inside"), ("link", "f"), ("linkto", "f"))),
                    ("raw.mkdir", 3, "dangling/"), ("raw.symlink", "x", 3, "dangling/"))
    for path in SECRETS:
        hostile.refuses(("read", path), ("raw.linkto", 3, path, 3, "stolen"))
        with contextlib.suppress(GoError):  # a hard link to the symbolic link itself is allowed
            hostile("raw.link", 3, path, 3, "stolen")
            hostile.refuses(("read", "stolen"))
            hostile("remove", "stolen")
    hostile.refuses(*(("raw.rename", 3, path, 3, "stolen")
                      for path in ("../outside/secret", "outdir/secret", "/etc/passwd")))
    hostile.refuses(("rename", "f", "/outside/f"), ("rename", "f", str(outside / "f")),
                    ("link", str(outside / "secret"), "stolen"))
    assert state(outside) == before
    assert state(hostile.host).keys() == own
    assert (hostile.host / "f").read_text() == "inside"


def test_escapes_are_told_apart_from_what_is_missing(hostile: Go) -> None:
    for path in ["out", "outdir/secret", "absolute", "chain", "own"]:
        hostile.fails("ErrPermission", "read", path)
        hostile.fails("ErrPermission", "stat", path)
    assert hostile("readlink", "out") == "../outside/secret"
    assert hostile("lstat", "absolute")["mode"][0] == "L"


def test_a_link_with_an_absolute_target_cannot_be_made(tree: Go) -> None:
    for target in ("/etc/passwd", "/", "//etc", "/m/f"):
        tree.fails("ErrPermission", "symlink", target, "link")
    assert list(tree.host.iterdir()) == []


def test_a_chain_of_links_has_an_end(go: Go) -> None:
    (go.host / "0").write_text("end")
    for n in range(60):
        (go.host / str(n + 1)).symlink_to(str(n))
    assert go("read", "30") == "end"
    go.fails("ELOOP", "read", "60")
    go.fails("ELOOP", "stat", "60")


def test_a_root_is_not_left_though_the_mount_is_wider(go: Go) -> None:
    (go.host / "sub").mkdir()
    (go.host / "secret").write_text(SECRET)
    for name, target in {"up": "..", "out": "../secret", "in": "file"}.items():
        (go.host / "sub" / name).symlink_to(target)
    root = Go(go.app, go.host, f"/m/{go.host.name}/sub")
    root("write", "file", "fine")
    assert root("read", "in") == "fine"
    for op, *args in [("read", "../secret"), ("read", "out"), ("read", "up/secret"), ("write", "up/new", ""),
                      ("stat", "out"), ("mkdir", "../new"),
                      ("rename", "file", "../file"), ("link", "file", "up/file"), ("remove", "../secret"),
                      ("removeall", "up/secret"), ("read", "/m/secret")]:
        with pytest.raises(GoError, match="escapes"):
            root(op, *args)
    assert sorted(p.name for p in go.host.iterdir()) == ["secret", "sub"]
    assert go("read", "sub/out") == SECRET


EXCHANGE = ("import ctypes,sys\nc=ctypes.CDLL(None)\na,b=(p.encode() for p in sys.argv[1:])\nwhile True: assert "
            "c.renameat2(-100,a,-100,b,2)==0\n")


@pytest.mark.long
@pytest.mark.parametrize("what", ["link", "folder"])
def test_what_is_exchanged_for_a_link_to_outside_all_the_time_never_leads_there(
    alone: Go, tmp_path: Path, lookup: None, what: str
) -> None:
    outside, inside = tmp_path / "outside", alone.host / "d"
    for folder, content in ((outside, SECRET), (inside, "inside")):
        folder.mkdir()
        (folder / "file").write_text(content)
        (folder / "victim").touch()
    first, second = (inside, alone.host / "e") if what == "folder" else (inside / "file", inside / "out")
    second.symlink_to("../outside" if what == "folder" else "../../outside/file")
    before = state(outside)
    with subprocess.Popen([sys.executable, "-c", EXCHANGE, first, second]) as exchanging:
        try:
            said = alone("exchanged", "d", "file", 2000)
            assert exchanging.poll() is None
        finally:
            exchanging.kill()
    assert said["failures"] > 0
    assert said["seen"].keys() == {"inside"}
    assert state(outside) == before


def test_descriptors_that_the_program_did_not_open_are_not_there(alone: Go, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w+b", buffering=0) as file:
        file.write(SECRET.encode())
        file.seek(0)
        alone.refuses(*itertools.product(("fd.read", "fd.write"), (3, 4, *range(5, 41), 1000, 2**31 - 1, -1)))
        for n in (0, 4, file.fileno(), 1000, 2**31 - 1, -1):  # 4 is the virtual "/", which contains only the mount
            alone.fails("EBADF|ENOTDIR|ENOENT", "raw.open", n, 1, "secret", 0)
            alone.fails("EBADF|ENOTDIR|EROFS", "raw.mkdir", n, "new")
        assert file.tell() == 0
    assert (tmp_path / "secret").read_text() == SECRET


def test_two_mounts_do_not_reach_each_others_parents(tmp_path: Path) -> None:
    a, b = tmp_path / "x" / "a", tmp_path / "y" / "b"
    for folder in (a, b):
        folder.mkdir(parents=True)
        (folder.parent / "secret").write_text(SECRET)
    with opened({"/a": a, "/b": b}, tmp_path) as go:
        go.refuses(*(("raw.open", *where, 0)
                     for where in itertools.product((3, 4), (1,),
                                                    ("../secret", "../a", "../b", "../../x/secret", "../../y/secret"))))
        go.refuses(*(("read", path) for path in ("/a/../secret", "/secret", "/a/../../y/secret", "/c")))
        go("write", "/a/../b/f", "text")
        go("rename", "/b/f", "/a/f")
        go("link", "/a/f", "/b/g")
        (a / "over").symlink_to("../../y/b/g")
        go.refuses(("read", "/a/over"), ("raw.rename", 3, "f", 4, "../f"), ("raw.link", 3, "f", 4, "../f"),
                   ("raw.rename", 3, "../secret", 4, "f"))
    assert [(a / "f").read_text(), (b / "g").read_text()] == ["text"] * 2


CHANGES = [("write", "f", "x"), ("write", "new", ""), ("mkdir", "new"), ("remove", "f"), ("remove", "d/e/f"),
           ("removeall", "d"), ("rename", "f", "g"),
           ("link", "f", "g"), ("symlink", "f", "g"), ("open", "new", "RDONLY|CREATE"), ("chtimes", "f", 1, 1),
           ("chtimes", "d", 1, 1)]


def test_a_read_only_mount_is_read_and_never_changed(tmp_path: Path) -> None:
    fixed, free = tmp_path / "fixed", tmp_path / "free"
    for folder in (fixed / "d" / "e", free):
        folder.mkdir(parents=True)
        (folder / "f").write_text("text")
    (fixed / "f").write_text("text")
    (fixed / "link").symlink_to("f")
    before = state(fixed)
    with opened([Mount(fixed, "/fixed", read_only=True), Mount(free, "/free")], fixed) as go:
        assert go("read", "link") == "text"
        assert go("readlink", "link") == "f"
        assert sorted(go("readdir", "/fixed")) == ["-f", "Llink", "dd"]
        assert go("stat", "d/e/f")["size"] == 4
        for through in (go, Go(go.app, fixed, "/fixed")):
            through.refuses(*CHANGES,
                            *(("open", "f", how)
                              for how in ("RDWR", "WRONLY", "APPEND|WRONLY", "RDONLY|TRUNC", "RDONLY|CREATE|TRUNC")))
        f, d = go("open", "f", "RDONLY"), go("open", "d", "RDONLY")
        go.refuses(("truncate", "f", 0), ("createtemp", ".", "x"), ("mkdirtemp", "d", "x"), ("f.write", f, "x"),
                   ("f.writeat", f, "x", 0),
                   ("f.truncate", f, 0), ("f.truncate", d, 0),
                   *itertools.product(("rename", "link"), ("f",), ("/free/new",)),
                   *itertools.product(("rename", "link"), ("/free/f",), ("f", "new")))
        go("write", "/free/f", "changed")
        assert go("f.readall", f) == "text"
    assert state(fixed) == before
    assert (free / "f").read_text() == "changed"


def test_a_thousand_files_are_worked_on_at_once(tree: Go) -> None:
    (tree.host / "d").mkdir()
    tree("churn", "d", 1000, 32)
    assert {p.name: p.read_text()
            for p in (tree.host / "d").iterdir()} == {f"file{n}": str(n) * 100 for n in range(0, 1000, 2)}


def test_lines_that_goroutines_append_are_all_there_and_whole(go: Go) -> None:
    go("append", "log", 12, 100)
    lines = (go.host / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{g} {n} {'x' * (100 + g)}" for g in range(12) for n in range(100))


def test_goroutines_write_and_read_one_file_at_offsets(go: Go) -> None:
    go("slices", go("open", "f", "RDWR|CREATE"))
    assert (go.host / "f").read_bytes() == b"".join(bytes([97 + g]) * 1000 for g in range(16)) * 50


def test_calls_from_many_threads_have_descriptors_of_their_own(go: Go) -> None:
    def work(name: str) -> None:
        for n in range(30):
            f = go("open", name, "RDWR|CREATE|TRUNC")
            go("f.write", f, f"{name} {n}")
            assert go("f.readat", f, len(f"{name} {n}"), 0) == f"{name} {n}"
            go("f.close", f)
    together(*(lambda name=name: work(name) for name in "abcdefgh"))


def whole(printed: bytes) -> None:
    runs = [(letter, len(list(run))) for letter, run in itertools.groupby(printed)]
    assert all(length % 200_000 == 0 for _, length in runs)
    assert sorted(printed[::200_000]) == sorted(b"abcdefgh" * 4)


def test_what_one_write_prints_stays_together_in_a_file_object() -> None:
    out = io.BytesIO()
    with gothreads.open(built("files"), args=["letters"], stdout=out, procs=4) as app:
        assert app.wait(PATIENCE) == 0
    whole(out.getvalue())


def run_python(program: str, *arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
                            stdout=subprocess.PIPE, **streams)


def test_what_one_write_prints_stays_together_in_an_inherited_pipe() -> None:
    with run_python("""
        import gothreads, sys
        with gothreads.open(sys.argv[1], args=["letters"], procs=4) as app:
            sys.exit(app.wait(30))
    """, built("files")) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    whole(out)


def goes_on(go: Go) -> None:
    """Assert that other calls and their files are not blocked."""
    def work(name: str) -> None:
        for _ in range(5):
            go.within(5, "write", name, "text")
            assert go.within(5, "read", name) == "text"
            go.within(5, "rename", name, name + "'")
            assert len(go.within(5, "readdir", ".")) >= 1
    together(*(lambda name=name: work(name) for name in "abcd"))


def closes(app: gothreads.App) -> None:
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(1)


def test_a_read_of_an_inherited_pipe_holds_up_nothing_and_close_ends_it(tmp_path: Path) -> None:
    with run_python("""
        import json, sys, time
        from pathlib import Path
        from tests.wasi import test_files as t
        with t.opened({"/m": sys.argv[1]}, Path(sys.argv[1])) as go:
            waits = go.begin("stdin")
            t.goes_on(go)
            assert not waits.done()
            print("waits", flush=True)
            assert json.loads(waits.result(t.PATIENCE))["Value"] == "text"
            waits = go.begin("stdin")
            time.sleep(0.1)
            t.closes(go.app)
            assert isinstance(waits.exception(t.under_load(1)), t.gothreads.AppClosed)
            print("closed", flush=True)
    """, tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        process.stdin.write(b"text")
        process.stdin.flush()
        assert process.stdout.readline() == b"closed\n"
        assert process.wait(PATIENCE) == 0


def test_a_read_of_a_file_object_holds_up_nothing_and_close_ends_it(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin, opened({"/m": tmp_path}, tmp_path, stdin=stdin) as go:
        try:
            waits = go.begin("stdin")
            goes_on(go)
            assert not waits.done()
            closes(go.app)
        finally:
            os.close(write_end)


@contextlib.contextmanager
def waiting(go: Go, kind: str) -> Iterator[tuple[Path, Future[bytes]]]:
    """A goroutine that waits for the other end of a FIFO. That end is opened at the exit, so that nothing is left."""
    fifo, kept, other = go.host / "fifo", go.host.parent / "kept", None
    os.mkfifo(fifo)
    os.link(fifo, kept)
    if kind in ("reads", "writes"):
        other = os.open(fifo, os.O_RDWR)
    number = go("open", "fifo", "RDONLY" if kind == "reads" else "WRONLY") if other is not None else 0
    future = {"opens to read": lambda: go.begin("read", "fifo"),
              "opens to write": lambda: go.begin("open", "fifo", "WRONLY"),
              "reads": lambda: go.begin("f.read", number, 100),
              "writes": lambda: go.begin("f.write", number, "x" * 1_000_000)}[kind]()
    time.sleep(0.1)
    try:
        yield fifo, future
    finally:
        ends = [os.open(kept, os.O_RDWR | os.O_NONBLOCK)]
        wait_for([future], 0.3)
        for end in ends if other is None else [other, *ends]:
            os.close(end)
        wait_for([future], 5)


KINDS = ["opens to read", "opens to write", "reads", "writes"]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_fifo_that_waits_holds_up_nothing(alone: Go, kind: str) -> None:
    with waiting(alone, kind) as (_, future):
        goes_on(alone)
        assert not future.done()


@pytest.mark.parametrize("kind", KINDS)
def test_close_ends_a_wait_for_a_fifo(alone: Go, kind: str) -> None:
    with waiting(alone, kind) as (_, future):
        assert not future.done()
        closes(alone.app)
        assert isinstance(future.exception(under_load(1)), gothreads.AppClosed)


def test_a_fifo_brings_what_the_host_writes_and_takes_what_it_reads(alone: Go) -> None:
    with waiting(alone, "opens to read") as (fifo, future):
        writer = threading.Thread(target=lambda: fifo.write_text("from the host"))
        writer.start()
        assert alone._answered(future.result(PATIENCE)) == "from the host"
        writer.join()
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
        reader.start()
        f = alone.within(5, "open", "fifo", "WRONLY")
        alone.within(5, "f.write", f, "x" * 200_000)
        alone("f.close", f)
        reader.join(PATIENCE)
        assert read == [b"x" * 200_000]


@pytest.mark.parametrize("kind", KINDS)
def test_close_ends_a_wait_for_a_fifo_that_was_removed_meanwhile(alone: Go, kind: str) -> None:
    with waiting(alone, kind) as (fifo, future):
        fifo.unlink()
        assert not future.done()
        closes(alone.app)


def test_nothing_is_lost_whoever_opens_a_fifo_first(alone: Go) -> None:
    fifo = alone.host / "fifo"
    os.mkfifo(fifo)
    for n in range(100):
        writer = threading.Thread(target=fifo.write_text, args=(str(n),), daemon=True)
        writer.start()
        assert alone.within(5, "read", "fifo") == str(n)
        writer.join(PATIENCE)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "gothreads-test", folder], capture_output=True,
                             text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_and_what_fits_is_kept(small: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    with opened({"/small": small, "/large": tmp_path / "large"}, small) as go:
        go("write", "first", "first")
        f = go("open", "big", "WRONLY|CREATE")
        written = go.fails("ENOSPC", "f.write", f, "x" * 2_000_000)
        assert 0 < written == (small / "big").stat().st_size < 1 << 20
        assert (small / "big").read_bytes() == b"x" * written
        go.fails("ENOSPC", "f.write", f, "x" * 5000)
        go.fails("ENOSPC", "write", "other", "x" * 5000)
        assert go("read", "first") == "first"
        go("write", "/large/f", "x" * 2_000_000)
        go("f.close", f)
        go("remove", "big")
        go("write", "other", "x" * 500_000)
    assert sorted(p.name for p in small.iterdir()) == ["first", "other"]


def test_a_rename_to_another_disk_is_an_error_of_its_own(small: Path, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with opened({"/small": small, "/large": tmp_path}, small) as go:
        go.fails("EXDEV", "rename", "/large/f", "/small/f")
        go.fails("EXDEV", "link", "/large/f", "/small/f")


def test_arguments_and_environment_arrive_as_they_are() -> None:
    args, env = ["", "größe", "a b\n", "日本 👍", "-flag=x", "'\"\\",
                 ""], {"EMPTY": "", "ÜMLAUT": "λόγος", "X": "a=b\nc", "a b": " "}
    with gothreads.open(built("files"), args=args, env=env) as app:
        seen, environment = Go(app, Path())("args")
    assert seen == args
    assert sorted(environment) == sorted(f"{name}={value}" for name, value in env.items())
