"""What Go's own package net cannot do here says what can: guest.Listen, guest.Dial, and the flags that allow them."""

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


def program(folder: Path, source: str) -> Path:
    (folder / "go.mod").write_text("module program\n\ngo 1.25\n")
    (folder / "main.go").write_text(source)
    return folder


def test_who_waits_for_connections_that_nobody_can_make_is_told_how_to_listen(tmp_path: Path) -> None:
    path = program(tmp_path, LISTENS)
    code, out, said = finished("run", path)
    assert (code, out) == (2, "listening <nil>\n")
    hint = said.splitlines()[-1]
    assert all(word in hint for word in ("package net reaches nobody", "guest.Listen", "--allow-net", "guest.Listener", "--listen"))
    with gothreads.open(path, stdout=io.BytesIO(), stderr=io.BytesIO()) as app:
        assert app.wait(PATIENCE) == 2
        assert isinstance(app.error, gothreads.GuestPanic)
        assert "deadlock! (in WebAssembly package net reaches nobody outside: listen with guest.Listen" in app.error.headline


def test_who_dials_is_told_how(tmp_path: Path) -> None:
    code, out, _ = finished("run", program(tmp_path, DIALS))
    assert code == 0
    refused, unknown, *rest = out.splitlines()
    for line in (refused, unknown):
        assert "dial with guest.Dial of gothreads/guest, as --allow-net HOST:PORT allows" in line
    assert "connect: Connection refused (" in refused
    assert "lookup name.example" in unknown
    assert rest == ["true", "<nil>"]
