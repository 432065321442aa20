"""`gothreads profile`: of a program that it runs, of an app on a server, of a file."""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gothreads.cli.profile import _sampling
from gothreads.profiles.profile import Profile
from gothreads.runtime.goroutine_profile import goroutine_profile
from tests.support.command_line import command, finished, process
from tests.support.keys import Keys
from tests.support.server import running

PROGRAM = """package main

import (
	"math"
	"os"
)

//go:noinline
func work() (x uint64) {
	for i := range uint64(1_000_000) {
		x = x*31 + i
	}
	return x
}

var kept [][]byte

func main() {
	println("GODEBUG", os.Getenv("GODEBUG"))
	kept = append(kept, make([]byte, 8<<20))
	// So much work, not so much time: on a loaded machine, it takes longer.
	rounds := math.MaxInt
	if len(os.Args) > 1 {
		rounds = 8
	}
	for range rounds {
		for range 100 {
			work()
		}
		println("worked")
	}
	os.Stdout.WriteString("done\\n")
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "go.mod").write_text("module program\n\ngo 1.25\n")
    (folder / "main.go").write_text(PROGRAM)
    code, _, said = command("compile", folder)
    assert code == 0, said
    return folder


def test_a_program_that_ends_has_a_profile_and_stdout_is_only_json(program: Path, tmp_path: Path) -> None:
    code, out, said = finished("profile", program, "--cpu", "100", "--json", "-o", tmp_path / "out", "--", "short")
    assert code == 0, said
    (about,) = json.loads(out)["profiles"]
    assert about["note"] == "the program ended meanwhile"
    assert "main.work" in {row["function"] for row in about["functions"]}
    assert "done" in said
    profile = Profile.load(tmp_path / "out" / "cpu.pb.gz")
    assert profile.total == about["total"] > 0
    assert "main.work" in (tmp_path / "out" / "cpu.svg").read_text()


def test_ctrl_c_writes_what_there_is(program: Path, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("GODEBUG=madvdontneed=1\n")
    with process("profile", program, "--cpu", "1000", "--trace", "1000", "--heap", "--env-file", tmp_path / "env",
                 "-o", tmp_path / "out") as running:
        assert running.stderr is not None
        while b"GODEBUG" not in (line := running.stderr.readline()):
            pass
        assert line.split() == [b"GODEBUG", b"memprofilerate=524288,madvdontneed=1"]
        for _ in range(4):  # samples come meanwhile
            while b"worked" not in running.stderr.readline():
                pass
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert running.returncode == 0, err
    assert b"Ctrl-C: writing what there is" in err
    assert Profile.load(tmp_path / "out" / "cpu.pb.gz").kind == "cpu"
    assert Profile.load(tmp_path / "out" / "heap.pb.gz").total >= 8 << 20  # from the start
    assert not (tmp_path / "out" / "trace.out").exists()
    assert b"main.work" in out


@pytest.mark.parametrize(("settings", "file", "wanted"), [
    ([], "", "memprofilerate=524288"),
    ([], "GODEBUG=a=1\n", "memprofilerate=524288,a=1"),
    (["GODEBUG"], "GODEBUG=a=1\n", "memprofilerate=524288,here=1"),
    (["GODEBUG=b=1", "X=y=z"], "", "memprofilerate=524288,b=1"),
])
def test_the_programs_own_godebug_stays(settings: list[str], file: str, wanted: str, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GODEBUG", "here=1")
    (tmp_path / "env").write_text(file)
    found = _sampling(settings, [str(tmp_path / "env")])
    assert f"GODEBUG={wanted}" in found
    assert ("X=y=z" in found) == ("X=y=z" in settings)


def test_a_server_is_asked_for_as_long_as_the_help_says(tmp_path: Path) -> None:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(goroutine_profile([], "app").data)

        def log_message(self, *_: object) -> None:
            pass
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert command("profile", url, "-o", tmp_path)[0] == 0
        assert command("profile", url, "--goroutine", "--mutex", "3", "--trace", "-o", tmp_path)[0] == 0
        server.shutdown()
    assert asked == ["/debug/pprof/profile?seconds=10", "/debug/pprof/mutex?seconds=3",
                     "/debug/pprof/trace?seconds=1", "/debug/pprof/goroutine?"]


def test_an_app_of_a_server_and_its_key(calls: Path, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    key = keys.new("seer", "inspect")["Authorization"].removeprefix("Bearer ")
    (tmp_path / "key").write_text(key + "\n")
    with running("--api-keys", keys.path, calls) as server:
        url = str(server.client.base_url)
        assert command("profile", url, "--goroutine", "-o", tmp_path)[0] == 1
        code, out, said = command("profile", url, "--goroutine", "--trace", "0.1", "--key-file", tmp_path / "key", "-o",
                                  tmp_path / "out")
        assert code == 0, said
        assert out.startswith("trace, 0.1 s")
        assert "goroutine, " in out
        assert (tmp_path / "out" / "trace.out").read_bytes().startswith(b"go 1.")
        code, _, said = command("profile", url, "--heap", "--key-file", tmp_path / "key", "-o", tmp_path / "out")
        assert (code, "409: " in said, "seconds" in said) == (1, True, True)


def test_a_profile_in_a_file_is_shown(tmp_path: Path) -> None:
    code, _, said = command("profile", tmp_path / "none.pb.gz")
    assert (code, "cannot read" in said) == (1, True)
    (tmp_path / "bad.pb.gz").write_bytes(b"no profile")
    code, _, said = command("profile", tmp_path / "bad.pb.gz")
    assert (code, "bad.pb.gz is not a profile that `go tool pprof` opens" in said) == (1, True)


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (("http://127.0.0.1:9",), 1, "http://127.0.0.1:9 cannot be reached"),
    (("http://",), 1, "'http://' is not the address of a server"),
    (("app.wasm", "--cpu", "0"), 2, "'0' is not a number of seconds above 0"),
    (("app.wasm", "--app", "x"), 1, "--app and --key-file are for servers"),
    (("app.wasm", "--nothing"), 2, "arguments of the program go after --"),
    (("http://127.0.0.1:9", "--key-file", "/none"), 1, "cannot read /none"),
])
def test_what_is_wrong_is_told(arguments: tuple[str, ...], code: int, told: str, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, said = command("profile", *arguments)
    assert (found, told in said) == (code, True), said
