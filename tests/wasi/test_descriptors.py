"""Every call of WASI preview 1 on every kind of descriptor returns the expected errno."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.wasi.calls.fd import FdCalls
from gothreads.wasi.errnos import wasi_errno
from tests.support.hostile_files import liar, string
from tests.support.modules import MODELS
from tests.support.modules import opened as started

# Addresses in the module's memory.
VECTORS, NAME, OTHER, ADDRESS, SUBSCRIPTIONS, RESULT, BUFFER = 512, 2048, 2112, 2176, 2304, 3072, 8192
CLOSED, HUGE = 1000, (1 << 31) - 1

#: The calls whose first parameter is a descriptor: the types and values of the other parameters; -1 stands for the
#: same descriptor.
ON_DESCRIPTORS: dict[str, list[tuple[str, int]]] = {
    "fd_advise": [("i64", 0), ("i64", 0), ("i32", 0)],
    "fd_allocate": [("i64", 0), ("i64", 8)],
    "fd_datasync": [],
    "fd_fdstat_get": [("i32", RESULT)],
    "fd_fdstat_set_rights": [("i64", 0), ("i64", 0)],
    "fd_filestat_get": [("i32", RESULT)],
    "fd_filestat_set_size": [("i64", 8)],
    "fd_filestat_set_times": [("i64", 0), ("i64", 0), ("i32", 10)],
    "fd_pread": [("i32", VECTORS), ("i32", 1), ("i64", 0), ("i32", RESULT)],
    "fd_prestat_get": [("i32", RESULT)],
    "fd_prestat_dir_name": [("i32", RESULT), ("i32", 64)],
    "fd_pwrite": [("i32", VECTORS), ("i32", 1), ("i64", 0), ("i32", RESULT)],
    "fd_read": [("i32", VECTORS), ("i32", 1), ("i32", RESULT)],
    "fd_readdir": [("i32", BUFFER), ("i32", 512), ("i64", 0), ("i32", RESULT)],
    "fd_seek": [("i64", 0), ("i32", 1), ("i32", RESULT)],
    "fd_sync": [],
    "fd_tell": [("i32", RESULT)],
    "fd_write": [("i32", VECTORS), ("i32", 1), ("i32", RESULT)],
    "path_create_directory": [("i32", NAME), ("i32", 4)],
    "path_filestat_get": [("i32", 1), ("i32", NAME), ("i32", 4), ("i32", RESULT)],
    "path_filestat_set_times": [("i32", 1), ("i32", NAME), ("i32", 4), ("i64", 0), ("i64", 0), ("i32", 10)],
    "path_link": [("i32", 0), ("i32", NAME), ("i32", 4), ("i32", -1), ("i32", OTHER), ("i32", 5)],
    "path_open": [("i32", 1), ("i32", NAME), ("i32", 4), ("i32", 0), ("i64", 2), ("i64", 2), ("i32", 0),
                  ("i32", RESULT)],
    "path_readlink": [("i32", NAME), ("i32", 4), ("i32", BUFFER), ("i32", 64), ("i32", RESULT)],
    "path_rename": [("i32", OTHER), ("i32", 5), ("i32", -1), ("i32", NAME), ("i32", 4)],
    "path_remove_directory": [("i32", NAME), ("i32", 4)],
    "path_unlink_file": [("i32", NAME), ("i32", 4)],
    "sock_recv": [("i32", VECTORS), ("i32", 1), ("i32", 0), ("i32", RESULT), ("i32", RESULT + 8)],
    "sock_send": [("i32", VECTORS), ("i32", 1), ("i32", 0), ("i32", RESULT)],
    "sock_accept": [("i32", 0), ("i32", RESULT)],
    "sock_shutdown": [("i32", 3)],
    "fd_fdstat_set_flags": [("i32", 1)],  # APPEND
    "fd_renumber": [("i32", -1)],
    "fd_close": [],
}
#: The other calls: the types and values of their parameters.
ELSEWHERE: dict[str, list[tuple[str, int]]] = {
    "args_get": [("i32", BUFFER), ("i32", BUFFER + 512)], "args_sizes_get": [("i32", RESULT), ("i32", RESULT + 4)],
    "environ_get": [("i32", BUFFER), ("i32", BUFFER + 512)],
    "environ_sizes_get": [("i32", RESULT), ("i32", RESULT + 4)],
    "clock_res_get": [("i32", 1), ("i32", RESULT)], "clock_time_get": [("i32", 1), ("i64", 0), ("i32", RESULT)],
    "random_get": [("i32", RESULT), ("i32", 16)], "sched_yield": [], "proc_raise": [("i32", 9)],
    "path_symlink": [("i32", NAME), ("i32", 4), ("i32", -1), ("i32", OTHER), ("i32", 5)],  # descriptor not first
    "poll_oneoff": [("i32", SUBSCRIPTIONS), ("i32", BUFFER), ("i32", 2), ("i32", RESULT)],
}
OF_HOST = {"sock_listen": 5, "sock_dial": 6, "sock_connected": 1, "sock_address": 5, "msg_events": 3, "msg_replies": 1,
           "idle_open": 1}


def module(folder: Path, model: str, port: int) -> Path:
    """A module that exports all functions that it imports."""
    imports, exports = [], []
    types = {name: ["i32", *(kind for kind, _ in rest)] for name, rest in ON_DESCRIPTORS.items()}
    types |= {name: [kind for kind, _ in rest]
              for name, rest in ELSEWHERE.items()} | {name: ["i32"] * count for name, count in OF_HOST.items()}
    for name, params in types.items():
        of = "gothreads" if name in OF_HOST else "wasi_snapshot_preview1"
        kind = f"(param {' '.join(params)})" if params else ""
        imports.append(f'(import "{of}" "{name}" (func ${name} {kind} (result i32)))')
        given = " ".join(f"(local.get {place})" for place in range(len(params)))
        exports.append(f'(func (export "{name}") {kind} (result i32) (call ${name} {given}))')
    # The test writes the subscriptions for poll_oneoff.
    data = {VECTORS: BUFFER.to_bytes(4, "little") + (16).to_bytes(4, "little"), NAME: b"name", OTHER: b"other",
            ADDRESS: f"127.0.0.1:{port}".encode(),
            ADDRESS + 64: b"tcp127.0.0.1:0events"}
    more = "".join(f"(data (i32.const {at}) {string(text)})" for at, text in data.items()) + "".join(exports)
    return liar(folder, model, {"handlers": False}, imports="".join(imports), more=more)


class Calls:
    """Calls WASI in a module, and opens descriptors for it."""

    def __init__(self, app: gothreads.App, folder: Path, port: int) -> None:
        self.app, self.folder, self.port = app, folder, port

    def __call__(self, name: str, *args: int) -> str:
        """Call a function; "OK", or the name of the errno."""
        return NAMES[getattr(self.app.exports, name)(*args)]

    def made(self, name: str, *args: int) -> int:
        assert self(name, *args) == "OK", name
        return int.from_bytes(self.app.memory.read(RESULT, 4), "little")

    def file(self, rights: int, oflags: int = 0, fdflags: int = 0, name: str = "file") -> int:
        (self.folder / "file").write_bytes(b"0123456789abcdef")
        self.app.memory.write(BUFFER, name.encode())
        return self.made("path_open", 3, 1, BUFFER, len(name), oflags, rights, rights, fdflags, RESULT)

    def above(self) -> int:
        self.app.memory.write(BUFFER, b"pwd")
        return self.made("path_open", 5, 1, BUFFER, 3, 2, 2, 2, 0, RESULT)

    def listener(self) -> int:
        return self.made("sock_listen", ADDRESS + 64, 3, ADDRESS + 67, 11, RESULT)

    def connection(self) -> int:
        fd = self.made("sock_dial", ADDRESS + 64, 3, ADDRESS, 10 + len(str(self.port)), 0, RESULT)
        while self("sock_connected", fd) == "EAGAIN":
            pass
        return fd

    def poll(self, fd: int, kind: int) -> str:
        """Wait for a descriptor for at most a millisecond; the name of its event's errno, or "later" on timeout."""
        wanted = struct.pack("<QBxxxxxxxIxxxxQQHxxxxxx", 7, kind, fd & 0xFFFFFFFF, 0, 0, 0)
        self.app.memory.write(SUBSCRIPTIONS, wanted + struct.pack("<QBxxxxxxxIxxxxQQHxxxxxx", 8, 0, 1, 1_000_000, 0, 0))
        assert self("poll_oneoff", SUBSCRIPTIONS, BUFFER, 2, RESULT) == "OK"
        userdata, number = struct.unpack("<QH", self.app.memory.read(BUFFER, 10))
        return NAMES[number] if userdata == 7 else "later"


NAMES = {wasi_errno(OSError(number, "")): name
         for number, name in errno.errorcode.items()} | {0: "OK", wasi_errno(OSError(errno.EIO, "")): "EIO"}

#: How to make each kind of descriptor.
KINDS: dict[str, Callable[[Calls], int]] = {
    "mount": lambda calls: 3,
    "read-only mount": lambda calls: 4,
    "root": lambda calls: 5,  # the virtual "/"
    "above": lambda calls: calls.above(),
    "folder": lambda calls: calls.file(2, 2, name="sub"),
    "file to read": lambda calls: calls.file(2),
    "file to write": lambda calls: calls.file(64),
    "file": lambda calls: calls.file(66),
    "file to append": lambda calls: calls.file(66, fdflags=1),
    "fifo to read": lambda calls: calls.file(2, fdflags=4, name="fifo"),
    "fifo": lambda calls: calls.file(66, fdflags=4, name="fifo"),
    "listener": Calls.listener,
    "connection": Calls.connection,
    "events": lambda calls: calls.made("msg_events", ADDRESS + 78, 6, RESULT),
    "replies": lambda calls: calls.made("msg_replies", RESULT),
    "idle": lambda calls: calls.made("idle_open", RESULT),
    "closed": lambda calls: CLOSED,
    "huge": lambda calls: HUGE,
    "negative": lambda calls: -1,
}
GROUPS = {"above": "root", "mount": "folder", "read-only mount": "folder", "file to append": "file", "events": "queue",
          "replies": "queue", "idle": "queue"}
#: Expected results of the calls without paths, by kind of descriptor; "OK" if not listed. (EBADF if it is not open.)
SENSE: dict[str, dict[str, str]] = {
    "fd_allocate": {"folder": "EBADF", "file to read": "EBADF", "fifo to read": "EBADF", "fifo": "ESPIPE",
                    "listener": "ESPIPE", "connection": "ESPIPE",
                    "queue": "ESPIPE", "stdin": "ESPIPE", "stdout": "ESPIPE"},
    "fd_datasync": {"fifo to read": "EINVAL", "fifo": "EINVAL", "listener": "EINVAL", "connection": "EINVAL",
                    "queue": "EINVAL", "stdin": "EINVAL",
                    "stdout": "EINVAL"},
    "fd_filestat_set_size": {"folder": "EINVAL", "file to read": "EINVAL", "fifo to read": "EINVAL", "fifo": "EINVAL",
                             "listener": "EINVAL",
                             "connection": "EINVAL", "queue": "EINVAL", "stdin": "EINVAL", "stdout": "EINVAL"},
    "fd_filestat_set_times": {"read-only mount": "EROFS", "listener": "EINVAL", "connection": "EINVAL",
                              "queue": "EINVAL", "stdin": "EINVAL",
                              "stdout": "EINVAL"},
    "fd_pread": {"folder": "EISDIR", "file to write": "EBADF", "fifo to read": "ESPIPE", "fifo": "ESPIPE",
                 "listener": "ESPIPE", "connection": "ESPIPE",
                 "queue": "ESPIPE", "stdin": "ESPIPE", "stdout": "ESPIPE"},
    "fd_prestat_get": dict.fromkeys(("folder", "file to read", "file to write", "file", "fifo to read", "fifo",
                                     "listener", "connection", "queue",
                                     "stdin", "stdout"), "ENOTDIR") | {"mount": "OK", "read-only mount": "OK"},
    "fd_pwrite": {"folder": "EBADF", "file to read": "EBADF", "fifo to read": "EBADF", "fifo": "ESPIPE",
                  "listener": "ESPIPE", "connection": "ESPIPE",
                  "queue": "EBADF", "stdin": "ESPIPE", "stdout": "ESPIPE"},
    "fd_read": {"folder": "EISDIR", "file to write": "EBADF", "fifo": "EAGAIN", "listener": "ENOTCONN",
                "connection": "EAGAIN", "queue": "EAGAIN",
                "stdout": "EBADF"},
    "fd_readdir": dict.fromkeys(("file to read", "file to write", "file", "fifo to read", "fifo", "listener",
                                 "connection", "queue", "stdin", "stdout"),
                                "ENOTDIR"),
    "fd_seek": dict.fromkeys(("fifo to read", "fifo", "listener", "connection", "queue", "stdin", "stdout"), "ESPIPE"),
    "fd_write": {"folder": "EBADF", "file to read": "EBADF", "fifo to read": "EBADF", "listener": "EPIPE",
                 "queue": "EBADF", "stdin": "EBADF"},
    "sock_recv": {"listener": "ENOTCONN", "connection": "EAGAIN"},
    "sock_send": {"listener": "EPIPE"},
    "sock_accept": {"listener": "EAGAIN", "connection": "EINVAL"},
}
_ROOT = {"fd_allocate": "ESPIPE", "fd_datasync": "EINVAL", "fd_filestat_set_size": "EINVAL",
         "fd_filestat_set_times": "EROFS", "fd_pread": "EISDIR",
         "fd_pwrite": "EBADF", "fd_read": "EISDIR", "fd_seek": "ESPIPE", "fd_write": "EBADF"}
for _name, _said in _ROOT.items():
    SENSE[_name]["root"] = _said
SENSE["fd_prestat_get"] |= {"root": "OK", "above": "ENOTDIR"}
SENSE |= {"fd_sync": SENSE["fd_datasync"], "fd_tell": SENSE["fd_seek"], "fd_prestat_dir_name": SENSE["fd_prestat_get"]}
#: The calls with paths that change nothing.
LOOKING = ("path_filestat_get", "path_open", "path_readlink")


def expected(name: str, kind: str) -> str:
    group = GROUPS.get(kind, kind)
    if kind in ("closed", "huge", "negative"):
        return "EBADF"
    if name.startswith("path_") and group == "root":
        return "EROFS" if name in ("path_create_directory", "path_symlink") else "ENOENT"
    if name.startswith("path_"):
        return ("ENOTDIR" if group != "folder" else "EROFS" if kind == "read-only mount" and name not in LOOKING
                else "OK")
    if name.startswith("sock_") and kind not in ("listener", "connection"):
        return "ENOTSOCK"
    return SENSE.get(name, {}).get(kind, SENSE.get(name, {}).get(group, "OK"))


#: The kinds of standard streams that can be passed to `open`.
STREAMS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "inherited": lambda folder: {},
    "text": lambda folder: {"stdin": io.StringIO("text"), "stdout": io.StringIO(), "stderr": io.StringIO()},
    "bytes": lambda folder: {"stdin": b"bytes", "stdout": io.BytesIO(), "stderr": io.BytesIO()},
    "file": lambda folder: {"stdin": io.FileIO(folder / "in", "w+"), "stdout": io.FileIO(folder / "out", "w"),
                            "stderr": io.FileIO(folder / "error", "w")},
}


@contextlib.contextmanager
def opened(folder: Path, model: str, **streams: Any) -> Iterator[Calls]:
    for name in ("mount", "mount/sub"):
        (folder / name).mkdir()
    os.mkfifo(folder / "mount" / "fifo")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        mounts = [gothreads.Mount(folder / "mount", "/m"), gothreads.Mount(folder / "mount", "/ro", read_only=True)]
        with gothreads.open(module(folder, model, port), mounts=mounts, allow_net=["127.0.0.1:*"], env={"PWD": "/pwd"},
                            **streams) as app:
            yield Calls(app, folder / "mount", port)


@pytest.fixture
def nothing_to_read() -> Iterator[None]:
    """Make the process's own standard input empty, however the tests are run."""
    before = os.dup(0)
    with open(os.devnull) as empty:
        os.dup2(empty.fileno(), 0)
    yield
    os.dup2(before, 0)
    os.close(before)


def lay_out(folder: Path, name: str) -> None:
    """Prepare "name" and "other" in a folder, as a call with paths needs them."""
    for path in (folder / "name", folder / "other"):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
    match name:
        case "path_remove_directory":
            (folder / "name").mkdir()
        case "path_readlink":
            (folder / "name").symlink_to("other")
        case "path_rename":
            (folder / "other").touch()
        case "path_create_directory" | "path_symlink":
            pass
        case _:
            (folder / "name").touch()


@pytest.mark.parametrize("model", ["single", "threaded"])
def test_every_call_on_every_kind_of_descriptor(tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture) -> None:
    wrong = []
    with opened(tmp_path, model, stdin=b"", stdout=io.BytesIO(), stderr=io.BytesIO()) as calls:
        for kind, make in KINDS.items():
            for name, rest in ON_DESCRIPTORS.items():
                if kind in ("mount", "read-only mount", "root") and name in ("fd_renumber", "fd_close"):
                    continue  # the test still needs it
                lay_out(calls.folder, name)
                lay_out(calls.folder / "sub", name)
                fd = make(calls)
                said = calls(name, fd, *(fd if value == -1 else value for _, value in rest))
                wrong += [(name, kind, said)] if said != expected(name, kind) else []
            for what in (1, 2):  # readable, writable
                said = calls.poll(make(calls), what)
                wrong += [("poll_oneoff", kind, said)] if said not in (("EBADF",) if expected("", kind) == "EBADF"
                                                                       else ("OK", "later")) else []
            lay_out(calls.folder, "path_symlink")
            lay_out(calls.folder / "sub", "path_symlink")
            said = calls("path_symlink", NAME, 4, make(calls), OTHER, 5)
            wrong += [("path_symlink", kind, said)] if said != expected("path_symlink", kind) else []
    assert not wrong
    assert not caplog.records


@pytest.mark.parametrize("model", ["single", "threaded"])
def test_a_number_that_was_moved_away_is_not_open_whatever_the_host_opens(tmp_path: Path, model: str) -> None:
    with opened(tmp_path, model) as calls, contextlib.ExitStack() as kept:
        source, target = calls.connection(), calls.connection()
        assert calls("fd_renumber", source, target) == "OK"
        for _ in range(20):  # one of these has the host descriptor that was closed
            one, other = socket.socketpair()
            kept.callback(one.close)
            kept.callback(other.close)
            one.send(b"secret")
            other.send(b"secret")
        assert calls("fd_read", source, VECTORS, 1, RESULT) == "EBADF"
        assert calls("fd_read", target, VECTORS, 1, RESULT) == "EAGAIN"
        assert calls("fd_close", target) == "OK"


@pytest.mark.parametrize("model", ["single", "threaded"])
def test_the_lowest_free_number_is_next_whoever_has_opened_and_closed_what(tmp_path: Path, model: str) -> None:
    with opened(tmp_path, model) as calls:
        numbers = [calls.file(66) for _ in range(4)]
        assert numbers == list(range(numbers[0], numbers[0] + 4))
        assert calls("fd_datasync", numbers[1]) == "OK"  # which C does not serve
        for number in (numbers[2], numbers[1]):
            assert calls("fd_close", number) == "OK"
            assert calls("fd_read", number, VECTORS, 1, RESULT) == "EBADF"
        fifo = calls.file(66, fdflags=4, name="fifo")  # which C does not open
        assert (fifo, calls.file(2), calls.file(2)) == (numbers[1], numbers[2], numbers[3] + 1)


@pytest.mark.usefixtures("nothing_to_read")
@pytest.mark.parametrize("given", STREAMS)
def test_every_call_on_the_standard_streams(tmp_path: Path, given: str, caplog: pytest.LogCaptureFixture) -> None:
    wrong = []
    with opened(tmp_path, "single", **STREAMS[given](tmp_path)) as calls:
        for fd, kind in enumerate(("stdin", "stdout", "stdout")):
            for what in (1, 2):
                assert calls.poll(fd, what) in ("OK", "later")
            for name, rest in ON_DESCRIPTORS.items():
                said = calls(name, fd, *(fd if value == -1 else value for _, value in rest))
                # An inherited stream may be a file or a terminal.
                fine = {expected(name, kind)} | ({"OK", "EINVAL"} if given == "inherited" and "sync" in name else set())
                wrong += [(name, kind, said)] if said not in fine else []
            assert calls("fd_tell", fd, RESULT) == "EBADF"  # closed by fd_close, the last call
    assert not wrong
    assert not caplog.records


def test_the_calls_that_are_about_no_descriptor(tmp_path: Path) -> None:
    with opened(tmp_path, "single") as calls:
        for name, rest in ELSEWHERE.items():
            if name not in ("path_symlink", "poll_oneoff"):
                assert calls(name, *(value for _, value in rest)) == ("ENOSYS" if name == "proc_raise" else "OK")


@pytest.mark.parametrize("model", ["single", "threaded"])
def test_a_fault_inside_a_call_is_an_errno_and_a_line_in_the_log(tmp_path: Path, model: str,
                                                                 monkeypatch: pytest.MonkeyPatch,
                                                                  caplog: pytest.LogCaptureFixture) -> None:
    def advise(_self: FdCalls, _fd: int, _offset: int, _length: int, _advice: int) -> None:
        raise KeyError("a fault of\ngothreads")
    monkeypatch.setattr(FdCalls, "fd_advise", advise)
    with opened(tmp_path, model) as calls:
        for level, traceback in ((logging.INFO, False), (logging.DEBUG, True)):
            caplog.clear()
            with caplog.at_level(level, "gothreads"):
                assert calls("fd_advise", 3, 0, 0, 0) == "EIO"
            (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert record.getMessage().startswith("wasi_snapshot_preview1.fd_advise failed")
            assert "KeyError" in record.getMessage()
            assert record.getMessage().isprintable()
            assert bool(record.exc_info) == traceback
        assert calls("fd_tell", 3, RESULT) == "OK"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("model", MODELS)
def test_go_looks_whether_its_streams_are_terminals(model: str) -> None:
    with started("files", model, stdin=b"input", stdout=Terminal(), stderr=io.BytesIO(),
                 **({"instances": 1} if model == "pool" else {})) as app:
        assert json.loads(app.request("do",
                                      '{"Op": "streams"}'))["Value"] == ["-rw-------", "Dcrw-------", "-rw-------"]
