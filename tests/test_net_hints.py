"""What Go's own packages net and os/exec cannot do here says what can: guest.Listen, guest.Dial, guest.Call."""

from __future__ import annotations

import io
from pathlib import Path

import gothreads
from tests.support.command_line import finished
from tests.support.waiting import PATIENCE

LISTENS = """package main

import (
	"fmt"
	"net"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	fmt.Println("listening", err)
	listener.Accept()
}
"""
DIALS = """package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
)

func main() {
	_, err := http.Get("http://127.0.0.1:1/")
	fmt.Println(err)
	_, err = http.Get("http://name.example/")
	fmt.Println(err)
	connection, _ := net.Dial("udp", "192.0.2.1:53")
	_, err = connection.Write([]byte("x"))
	fmt.Println(errors.Is(err, syscall.ECONNRESET))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	go net.Dial("tcp", listener.Addr().String())
	_, err = listener.Accept()
	fmt.Println(err)
}
"""
EXECUTES = """package main

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

func main() {
	_, err := exec.Command("/bin/echo", "hello").Output()
	fmt.Println(err)
	fmt.Println(errors.Is(err, syscall.ENOSYS), errors.Is(err, errors.ErrUnsupported))
	err = exec.Command("echo", "hello").Run()
	fmt.Println(err)
	fmt.Println(errors.Is(err, exec.ErrNotFound))
}
"""


def program(folder: Path, source: str) -> Path:
    (folder / "go.mod").write_text("module program\n\ngo 1.25\n")
    (folder / "main.go").write_text(source)
    return folder


def test_who_waits_for_connections_that_nobody_can_make_is_told_how_to_listen(tmp_path: Path) -> None:
    path = program(tmp_path, LISTENS)
    code, out, said = finished("run", path)
    assert (code, out) == (2, "listening <nil>\n")
    hint = said.splitlines()[-1]
    assert all(word in hint
               for word in ("package net cannot reach the network", "guest.Listen", "--allow-net", "guest.Listener",
                            "--listen"))
    with gothreads.open(path, stdout=io.BytesIO(), stderr=io.BytesIO()) as app:
        assert app.wait(PATIENCE) == 2
        assert isinstance(app.error, gothreads.GuestPanic)
        assert "deadlock! (in WebAssembly, package net cannot reach the network: listen with guest.Listen" in app.error.headline


def test_who_dials_is_told_how(tmp_path: Path) -> None:
    code, out, _ = finished("run", program(tmp_path, DIALS))
    assert code == 0
    refused, unknown, *rest = out.splitlines()
    for line in (refused, unknown):
        assert "dial with guest.Dial of gothreads/guest, as --allow-net HOST:PORT allows" in line
    assert "connect: Connection refused (" in refused
    assert "lookup name.example" in unknown
    assert rest == ["true", "<nil>"]


def test_a_program_that_starts_another_is_told_to_let_the_host_do_it(tmp_path: Path) -> None:
    code, out, _ = finished("run", program(tmp_path, EXECUTES))
    assert code == 0
    path, unsupported, name, missing = out.splitlines()
    for line in (path, name):
        assert "starts no processes: let the host do it, with guest.Call of gothreads/guest (docs/what-works.md): " in line
    assert path.endswith('exec: "/bin/echo": Not implemented on wasip1')
    assert name.endswith('exec: "echo": executable file not found in $PATH')
    assert (unsupported, missing) == ("true true", "true")
