"""Calls that no Go package would make: the module gets an error, and the host is not harmed (tests/modules/hostile)."""

from __future__ import annotations

import io
import os
import resource
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import gothreads
from gothreads import Limits
from gothreads.wasi import openat
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

INVALID, REFUSED, NOT_CAPABLE = 28, 14, 76  # WASI's numbers


def attempt(*args: str, folder: Path | None = None, allow_net: list[str] | None = None,
            limits: Limits | None = None) -> list[str]:
    """Run the module, which must end by itself with exit code 0; return the lines that it prints."""
    said = io.BytesIO()
    with gothreads.open(built("hostile"), args=args, mounts={"/m": folder} if folder else {}, allow_net=allow_net
                        or [], stdout=said, procs=4,
                        limits=limits) as app:
        assert app.wait(PATIENCE) == 0
    return said.getvalue().decode().splitlines()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """The names that this process looks up."""
    names: list[str] = []
    sys.addaudithook(lambda event, args: names.append(str(args[0])) if event == "socket.getaddrinfo" else None)
    return names


@pytest.mark.parametrize("how", ["listen", "dial"])
@pytest.mark.parametrize("rules", [[], ["api.example.org:443"], ["1.2.3.4:443"]])
def test_a_name_that_no_rule_names_is_not_even_looked_up(asked: list[str], how: str, rules: list[str]) -> None:
    asked.clear()
    assert attempt(how, "what-i-know.attacker.example:443", allow_net=rules) == [str(NOT_CAPABLE)]
    assert not [name for name in asked if "attacker" in name]


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(os.fspath(path))
    made.listen()
    return made


def test_a_link_in_place_of_a_socket_is_not_followed(inside: Path) -> None:
    with listening(inside / "allowed.sock"), listening(inside.parent / "secret.sock") as secret:
        allowed = os.fspath(inside / "allowed.sock")
        assert attempt("dial a link", allowed, "../secret.sock", folder=inside,
                       allow_net=[f"unix:{allowed}"]) == [str(REFUSED)]
        secret.setblocking(False)
        with pytest.raises(BlockingIOError):
            secret.accept()


def test_no_sockets_but_its_own_are_removed(inside: Path) -> None:
    (inside.parent / "run").mkdir()
    with listening(inside.parent / "run" / "x.sock"):
        own = os.fspath(inside / "d" / "x.sock")
        assert attempt("swap a listener's folder", own, "../run", folder=inside, allow_net=[f"unix:{own}"]) == ["0"]
        assert (inside.parent / "run" / "x.sock").exists()


@pytest.mark.long
def test_a_number_that_is_closed_is_never_read_as_somebody_elses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop, taken = threading.Event(), []

        def host() -> None:
            while not stop.is_set():
                mine, other = socket.socketpair()
                with mine, other:
                    other.sendall(b"secret")
                    mine.setblocking(False)
                    try:
                        taken.extend([got] if (got := mine.recv(100)) != b"secret" else [])
                    except OSError as error:
                        taken.append(str(error).encode())
        thread = threading.Thread(target=host)
        thread.start()
        try:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            assert attempt("read another's", address, allow_net=[address]) == []
        finally:
            stop.set()
            thread.join()
    assert taken == []


def taking(attempt: str, folder: Path) -> tuple[int, list[str]]:
    """The host's peak memory use for an attempt in bytes, measured in a separate process; and the module's output."""
    program = """
        import io, pathlib, re, sys, gothreads
        def most():  # of this process: what getrusage says may be its parent's
            return int(re.search("VmHWM:[^0-9]*([0-9]+)", pathlib.Path("/proc/self/status").read_text())[1])
        said, before = io.BytesIO(), most()
        with gothreads.open(sys.argv[1], args=[sys.argv[2]], mounts={"/m": sys.argv[3]}, stdout=said, procs=4, limits=gothreads.Limits(memory=64 << 20)) as app:
            assert app.wait(60) == 0
        print(most() - before, said.getvalue()[:1000].decode())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), built("hostile"), attempt, folder],
                          capture_output=True, text=True, check=True)
    taken, _, said = done.stdout.partition(" ")
    return int(taken) << 10, said.splitlines()[:-1]


def test_vectors_that_lie_over_each_other_do_not_take_the_hosts_memory(inside: Path) -> None:
    taken, said = taking("vectors", inside)
    assert said == [str(INVALID)]
    assert taken < 200 << 20


def test_there_is_nothing_that_was_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of the host's")
    assert attempt("look around") == ["[]", "1", "2 of 6", "[] <nil>"]  # the last is "/", which is empty


@pytest.mark.long
def test_what_changes_during_a_call_is_looked_at_once(inside: Path) -> None:
    """Threads swap a path, an address and vectors for others while the host is in calls that take them."""
    (inside / "aa").mkdir()
    (inside / "aa" / "file").write_text("inside")
    (inside.parent / "file").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as other:
        names = [f"127.0.0.1:{one.getsockname()[1]:05}" for one in (allowed, other)]
        said = attempt("exchange", *names, folder=inside, allow_net=names[:1])
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
    *outcomes, opened, dialled = said
    assert outcomes == []
    assert int(opened) > 0
    assert int(dialled) > 0


def test_a_descriptor_that_is_polled_again_and_again_takes_one_place() -> None:
    assert attempt("poll", allow_net=["*:*"]) == ["0", "100000"]


def test_a_link_does_not_tell_what_is_outside(inside: Path) -> None:
    assert len(set(attempt("links", "../" * 20, folder=inside))) == 1


def test_what_is_written_over_all_that_lies_below_gos_data_holds_up_no_end(caplog: pytest.LogCaptureFixture) -> None:
    said = io.BytesIO()
    app = gothreads.open(built("hostile"), args=["scribble"], stdout=said, procs=4)
    wait_until(lambda: said.getvalue() == b"ready\n")
    app.close()
    assert app.state is gothreads.State.CLOSED
    assert caplog.records == []  # no warning that threads are left


@pytest.mark.long
def test_a_folder_that_is_read_through_many_descriptors_does_not_take_the_hosts_memory(inside: Path) -> None:
    for number in range(3000):
        (inside / str(number)).touch()
    taken, said = taking("listings", inside)
    assert said == ["2999 5998"]  # the first name had been read from each
    assert taken < 200 << 20


def test_wrong_numbers_are_errors(inside: Path) -> None:
    assert attempt("numbers", folder=inside) == [f"{INVALID} {INVALID} 8"]


@pytest.mark.long
@pytest.mark.parametrize("lookup", ["open_with_openat2", "open_part_by_part"])
def test_times_outside_are_never_set(inside: Path, lookup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openat, "lookup", getattr(openat, lookup))
    (inside.parent / "outside").mkdir()
    before = (inside.parent / "outside").stat().st_mtime_ns
    attempt("times", "../outside", folder=inside)
    assert (inside.parent / "outside").stat().st_mtime_ns == before


def test_a_module_that_opens_all_it_can_leaves_the_host_some(inside: Path) -> None:
    """In a separate process, with a low limit."""
    (inside / "file").touch()
    program = """
        import resource, sys, gothreads
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
        with gothreads.open(sys.argv[1], args=["descriptors"], mounts={"/m": sys.argv[2]}) as app:
            code = app.wait(30)
            [open("/dev/null") for _ in range(16)]
            sys.exit(code)
    """
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 400
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), os.fspath(built("hostile")),
                           os.fspath(inside)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()) == (0,
                                                           ["open /m/file: Too many open files", "<nil>"]), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("rules", [(), ("127.0.0.1:*", "[::1]:*", "localhost:*")], ids=["without rules", "with rules"])
def test_sockets_survive_any_arguments(inside: Path, rules: tuple[str, ...]) -> None:
    said = io.BytesIO()
    with gothreads.open(built("hostile"), args=["sockets"], mounts={"/m": inside}, stdout=said, procs=4,
                        allow_net=rules,
                        limits=gothreads.Limits(files=64)) as app:
        assert app.wait(100) == 0
    word, number = said.getvalue().decode().rsplit(maxsplit=1)
    assert word == "calls that went well:"
    assert int(number) > 1000
