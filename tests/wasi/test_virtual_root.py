"""Paths that no mount covers do not exist; the folders above mounts do; and single files can be mounted."""

from __future__ import annotations

import io
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads import Mount
from gothreads.cli.module_options import argument_mounts, working_folder
from gothreads.output.terminal import Terminal
from gothreads.wasi.hints import Hints
from gothreads.wasi.path_hints import PathHints, advice
from gothreads.wasi.virtual_root import Root
from tests.support.command_line import finished
from tests.support.files_program import Go, GoError
from tests.support.modules import MODELS
from tests.support.modules import opened as started


@pytest.fixture(params=MODELS)
def go(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The module, with a folder mounted at /home/me/project and a single file at /home/me/data.csv."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "f").write_text("text")
    (tmp_path / "file").write_text("alone")
    (tmp_path / "secret").write_text("secret")
    mounts = [Mount(tmp_path / "project", "/home/me/project"),
              Mount(tmp_path / "file", "/home/me/data.csv", read_only=True)]
    options = {"instances": 1} if request.param == "pool" else {}
    with started("files", request.param, mounts=mounts, env={"PWD": "/work"}, **options) as app:
        yield Go(app, tmp_path)


def test_what_is_under_no_mount_is_not_there(go: Go) -> None:
    for op in ("stat", "lstat", "read", "readdir", "remove", "readlink", "evalsymlinks", "chdir"):
        for path in ("/nowhere", "/home/me/other", "/home/you/x", "/homes", "nowhere", "../nowhere/x/"):
            go.fails("ErrNotExist", op, path)
    go.fails("ErrNotExist", "user", "root")
    go.fails("ErrNotExist", "write", "/tmp/x", "text")
    go.fails("ErrNotExist", "rename", "/nowhere", "/home/me/project/x")
    go("removeall", "/nowhere")
    with pytest.raises(GoError, match="unknown time zone"):
        go("location", "Nowhere/City")


def test_the_folders_above_a_mount_are_there_and_cannot_be_changed(go: Go) -> None:
    assert [go("readdir", path) for path in ("/", "/home", ".")] == [["dhome", "dwork"], ["dme"], []]
    assert go("getwd") == "/work"
    assert go("evalsymlinks", "/home/me/project/f") == "/home/me/project/f"
    go("mkdirall", "/home/me/project/new/folder")
    go("mkdirall", "/home/me")
    for change in (("mkdir", "/new"), ("write", "/new", "x"), ("write", "/work/new", "x"), ("remove", "/work"),
                   ("symlink", "x", "/new"),
                   ("rename", "/home/me/project/f", "/new"), ("link", "/home/me/project/f", "/new"),
                   ("chtimes", "/home", 1, 1), ("mkdirall", "/tmp/x")):
        go.fails("EROFS", *change)
    go.fails("ErrExist", "mkdir", "/home")
    go.fails("EISDIR", "open", "/home", "RDWR")
    root = Go(go.app, go.host, "/")
    assert root("read", "home/me/project/f") == "text"
    root.refuses(("read", "home/me/project/../../secret"), ("read", "../secret"), ("read", "home/me/secret"),
                 ("readlink", "home"))


def test_a_single_file_is_read_and_nothing_beside_it(go: Go) -> None:
    file = "/home/me/data.csv"
    assert (go("read", file), go("stat", file)["size"]) == ("alone", 5)
    assert sorted(go("readdir", "/home/me")) == ["-data.csv", "dproject"]
    for change in (("write", file, "x"), ("remove", file), ("rename", file, "/home/me/project/x"),
                   ("link", file, "/home/me/project/x"),
                   ("chtimes", file, 1, 1), ("open", file, "RDONLY|TRUNC")):
        go.fails("EROFS", *change)
    go.fails("ENOTDIR", "read", f"{file}/x")
    go.refuses(("read", f"{file}/../secret"), ("read", "/home/me/secret"), ("read", "/home/me/file"))
    (go.host / "file").write_text("another")  # then replaced, as editors do
    os.replace(go.host / "file", go.host / "kept")
    (go.host / "file").write_text("new")
    assert go("read", file) == "new"


def test_a_mount_has_nothing_to_do_with_a_name_that_only_begins_like_it(tmp_path: Path) -> None:
    """Stock Go would take /database to be in the mount /data."""
    (tmp_path / "base").write_text("wrong")
    with started("files", mounts={"/data": tmp_path}) as app:
        go = Go(app, tmp_path)
        go.fails("ErrNotExist", "read", "/database")
        assert go("read", "/data/base") == go("read", "/data//./base") == "wrong"
        assert go("readdir", "/data") == go("readdir", "/data/") == ["-base"]


def test_what_cannot_be_mounted_is_said(tmp_path: Path) -> None:
    for host, why in ((tmp_path / "none", "it does not exist"), ("/dev/null", "it is neither a folder nor a file")):
        with pytest.raises(gothreads.MisuseError, match=f"cannot mount {host}: {why}$"):
            started("files", mounts={"/x": host})
    (tmp_path / "file").touch()
    with pytest.raises(gothreads.MisuseError, match="can only be mounted read-only"):
        started("files", mounts={"/file": tmp_path / "file"})
    with pytest.raises(gothreads.MisuseError, match=r"mounted at /d, covers that path$"):
        started("files", mounts=[Mount(tmp_path, "/d"), Mount(tmp_path / "file", "/d/file", read_only=True)])


PROGRAM = """package main

import (
	"os"

	"gothreads/guest"
)

func init() {
	guest.Handle("read", func(name []byte) ([]byte, error) { return os.ReadFile(string(name)) })
}

func main() {
	if len(os.Args) == 1 {
		select {}
	}
	for _, name := range os.Args[1:] {
		content, err := os.ReadFile(name)
		if err != nil {
			println(err.Error())
			os.Exit(1)
		}
		print(string(content))
	}
}
"""


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
def test_a_file_that_is_an_argument_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    (tmp_path / "main.go").write_text(PROGRAM)
    (tmp_path / "data.csv").write_text("1,2\n")
    monkeypatch.chdir(tmp_path)
    code, out, said = finished("run", "--model", model, tmp_path / "main.go", "data.csv", tmp_path / "data.csv")
    assert (code, out) == (0, "")
    assert said == f"gothreads: the module may read {tmp_path}/data.csv (to prevent this: --no-mount-args)\n" + "1,2\n" * 2
    code, _, said = finished("run", "--model", model, "--no-mount-args", tmp_path / "main.go", "data.csv")
    assert code == 1
    assert "open data.csv: No such file or directory\n" in said
    assert (f"no mount covers {tmp_path}/data.csv, so the module cannot use it. Mount the folder that you are in: "
            f"--mount {tmp_path}:{tmp_path} (with :ro after it, only to read), in Python mounts={{") in said
    if model == "threaded":
        code, _, said = finished("call", tmp_path / "main.go", "read", "/nowhere/x")
        assert code == 1
        assert ("no mount covers /nowhere/x, so the module cannot use it, and this machine has nothing of that name. "
                "To put a file or a folder HOST there: --mount HOST:/nowhere/x:ro") in said


def how_to_mount(path: str, *, creates: bool, folder: str = "/work") -> str:
    """The options in the advice about a path."""
    return advice(path, creates=creates, folder=folder).text.partition(": ")[2]


def test_the_option_that_mounts_a_path_names_the_folder_that_it_is_in(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    folder = f"{tmp_path}/a b"
    os.mkdir(folder)
    Path(folder, "file").touch()
    for path in (folder, f"{folder}/file"):
        assert how_to_mount(path, creates=False) == (
            f"--mount '{folder}:{folder}:ro', in Python mounts=[gothreads.Mount('{folder}', '{folder}', read_only=True)]")
    for new in (f"{folder}/new", f"{folder}/"):
        assert how_to_mount(new, creates=True) == (
            f"--mount '{folder}:{folder}', in Python mounts={{'{folder}': '{folder}'}}")
    for path, guest in (("/nowhere/data/x.csv", "/nowhere/data"), ("/nowhere/", "/nowhere")):
        assert how_to_mount(path, creates=True) == f"--mount HOST:{guest}, in Python mounts={{'{guest}': 'HOST'}}"
    for path in ("/nowhere/data/x.csv", f"{tmp_path}/none", "/nowhere"):  # a file or a folder, which HOST may be
        assert how_to_mount(path, creates=False) == (
            f"--mount HOST:{path}:ro, in Python mounts=[gothreads.Mount('HOST', '{path}', read_only=True)]")
    monkeypatch.setenv("HOME", f"{folder}/me")  # not all of the home for a file in it
    assert how_to_mount(f"{folder}/file", creates=False).startswith(f"--mount '{folder}/file:{folder}/file:ro', in ")


def test_for_what_is_in_the_folder_that_we_are_in_one_mount_is_offered(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    (here / "config.json").touch()
    monkeypatch.chdir(here)
    whole = (f"--mount {here}:{here} (with :ro after it, only to read), in Python mounts={{'{here}': '{here}'}}")
    for path, creates in (("config.json", False), ("data", False), ("data/new", True), ("new", True)):
        assert how_to_mount(f"{here}/{path}", creates=creates) == whole
        # In Python, no PWD is set: relative paths begin at the root.
        relative = advice(f"/{path}", creates=creates, folder="/")
        assert relative.text == (f". If {here}/{path} is meant: --mount .:/app, in Python mounts={{'/app': '.'}}, "
                                 "env={'PWD': '/app'}")
        assert relative.subject == advice("/config.json", creates=False, folder="/").subject
    assert "HOST:/missing" in how_to_mount("/missing", creates=False, folder="/")
    assert "HOST:/config.json" in how_to_mount("/config.json", creates=False, folder="/work")


def test_no_option_is_offered_for_what_no_module_should_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for path in ("/proc/1/environ", "/sys/class", "/dev/mem", "/etc", "/etc/passwd", "/root/.ssh", f"{tmp_path}/.ssh/id"):
        assert advice(path, creates=False, folder="/").text == (
            ". It is private to this machine or its user: mount it only if you trust the module with it")
    for path in ("/etcetera", "/nowhere/etc/x", f"{tmp_path}/x", f"{tmp_path}/work/.env"):
        assert "--mount " in advice(path, creates=False, folder="/").text
    assert "guest.Call" in advice("/dev/null", creates=False, folder="/").text


def test_arguments_are_handed_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/inside", "data.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    terminal, here = Terminal(io.StringIO(), io.StringIO()), str(tmp_path)
    found = argument_mounts(["data", "data/inside", "data.csv", "./data.csv", "none", "/dev/null", "/"], here, [], terminal)
    assert [str(mount.host) for mount in found] == [f"{here}/data", f"{here}/data.csv"]
    assert [mount.guest for mount in found] == [f"{here}/data", f"{here}/data.csv"]
    assert not argument_mounts(["data.csv"], here, [Mount(tmp_path, here)], terminal)


def test_a_path_in_a_flag_is_handed_over_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").touch()
    monkeypatch.chdir(tmp_path)
    for arg in ("-config=a.json", "--config=a.json", f"-c={tmp_path}/a.json"):
        found = argument_mounts([arg], str(tmp_path), [], Terminal(io.StringIO(), io.StringIO()))
        assert found == [Mount(tmp_path / "a.json", f"{tmp_path}/a.json", read_only=True)]
    assert not argument_mounts(["config=a.json", "-config="], str(tmp_path), [], Terminal(io.StringIO(), io.StringIO()))


def test_an_argument_is_handed_over_where_the_module_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "a.json").touch()
    monkeypatch.chdir(tmp_path / "work")
    found = argument_mounts(["../a.json", f"{tmp_path}/a.json"], "/app", [], Terminal(io.StringIO(), io.StringIO()))
    assert {mount.guest for mount in found} == {"/a.json", f"{tmp_path}/a.json"}


@pytest.mark.parametrize(("guests", "expected"), [
    ({}, "HERE/work"), ({"work": "/app"}, "/app"), ({"work": "/"}, "/"), ({".": "/data"}, "/data/work"),
    ({"other": "/data"}, "HERE/work"), ({"other": "/data", ".": "/all"}, "/all/work"),
    ({"work": "/app", ".": "HERE"}, "HERE/work")])
def test_the_working_folder_is_where_the_module_sees_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          guests: dict[str, str], expected: str) -> None:
    for name in ("work", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    mounts = [Mount(tmp_path / host, guest.replace("HERE", str(tmp_path))) for host, guest in guests.items()]
    assert working_folder(mounts) == expected.replace("HERE", str(tmp_path))


def test_the_hint_is_given_once_when_the_module_writes_that_the_path_is_missing(
        caplog: pytest.LogCaptureFixture) -> None:
    root, told = Root(), Hints("app")
    root.add("/here")
    hints = PathHints(told, root, "/")
    hints.watch(b"open /nowhere/x: No such file or directory\n")  # not looked up
    for path in (b"nowhere/x", b"nowhere/y"):
        with pytest.raises(FileNotFoundError):
            root.view().find(path)
    hints.watch(b"cannot use /nowhere/x\n")
    assert not caplog.records
    for _ in range(2):
        hints.watch(b"lookup: open /nowhere/x: No such file or directory\n")
        hints.watch(b"open /nowhere/y: No such file or directory")  # as in a panic, whose stack follows
    assert [record.getMessage() for record in caplog.records] == [
        "app: no mount covers /nowhere/x, so the module cannot use it, and this machine has nothing of that name. To "
        "put a file or a folder HOST there: --mount HOST:/nowhere/x:ro, in Python mounts=[gothreads.Mount('HOST', "
        "'/nowhere/x', read_only=True)] (docs/files-and-sockets.md)"]
    for _ in range(2):
        hints.end(failed=False)
    for path, creates in ((b"tmp/new", True), (b"tmp", False)):
        with pytest.raises(FileNotFoundError):
            root.view().find(path, creates=creates)
    hints.watch(b"stat /tmp: No such file or directory\n")  # by os.MkdirTemp
    assert caplog.records.pop().getMessage().endswith(
        "--mount /tmp:/tmp, in Python mounts={'/tmp': '/tmp'} (docs/files-and-sockets.md)")
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "app: no mount covers /nowhere/x", "app: no mount covers /nowhere/y"]
    for creates in (False, True, False):  # by os.MkdirAll
        with pytest.raises(OSError, match="read-only" if creates else "no such file"):
            root.view().find(b"made", creates=creates)
    hints.watch(b"mkdir /made: Read-only file system\n")
    hint = caplog.records.pop().getMessage()
    assert hint.startswith("app: no mount covers /made, so the module cannot use it. ")
    assert ":ro" not in hint
    assert len(caplog.records) == 2
    again = PathHints(told, root, "/")  # another instance, after a restart
    for name in ("x", "z"):
        with pytest.raises(FileNotFoundError):
            root.view().find(f"nowhere/{name}".encode())
        again.watch(f"open /nowhere/{name}: No such file or directory\n".encode())
    assert [record.getMessage().partition(",")[0] for record in caplog.records[2:]] == ["app: no mount covers /nowhere/z"]


@pytest.mark.parametrize("folder", ["/", "here"])
def test_a_module_that_fails_is_told_of_the_folder_that_it_has_missed_without_a_word(
        folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # as filepath.Glob("templates/*.html") does
    (tmp_path / "templates").mkdir()
    where = "/" if folder == "/" else f"{tmp_path}/"
    root = Root()
    hints = PathHints(Hints("app"), root, where.rstrip("/") or "/")
    for name in ("elsewhere", "templates", "nowhere"):
        with pytest.raises(FileNotFoundError):
            root.view().find(f"{where}{name}"[1:].encode())
    hints.end(failed=False)
    assert not caplog.records
    for _ in range(2):
        hints.end(failed=True)
    [hint] = caplog.messages
    assert hint.startswith(f"app: no mount covers {where}templates, so the module cannot use it. ")


def test_no_hint_is_given_for_what_the_module_does_not_write(tmp_path: Path,
                                                                   caplog: pytest.LogCaptureFixture) -> None:
    with started("files", env={"PWD": "/work"}) as app, caplog.at_level(logging.INFO, "gothreads"):
        Go(app, tmp_path).fails("ErrNotExist", "read", "/nowhere")
    assert not caplog.records


@pytest.mark.parametrize("model", MODELS)
def test_a_read_of_stdin_lets_goroutines_go_on_or_stops_them_all(tmp_path: Path, model: str) -> None:
    class Slow(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            threading.Event().wait(0.2)
            return b"x"
    with started("files", model, stdin=Slow(), **({"instances": 1} if model == "pool" else {})) as app:
        ticks = Go(app, tmp_path)("ticks")
    assert ticks >= 5 if model == "threaded" else ticks <= 1


@pytest.mark.parametrize("at", ["/", "//", "/.", "/a/.."])
def test_a_file_cannot_be_mounted_as_the_root(at: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(gothreads.MisuseError, match="it needs a name there"):
        started("files", mounts=[Mount(tmp_path / "file", at, read_only=True)])


def test_a_folder_can_be_mounted_as_the_root_by_any_of_its_names(tmp_path: Path) -> None:
    for at in ("/", "//", "/.", "/a/.."):
        started("files", mounts={at: tmp_path}).close()
