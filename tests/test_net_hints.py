"""Errors of packages net and os/exec say what would work: an option, the model threaded, guest.Call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import finished
from tests.support.modules import written

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
	"net/http"
	"os"
)

func main() {
	for _, url := range []string{"http://127.0.0.1:1/", "http://name.example/"} {
		_, err := http.Get(url)
		fmt.Println(errors.Is(err, os.ErrPermission), err)
	}
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


@pytest.mark.long
def test_a_program_that_may_not_listen_learns_which_option_would_allow_it(tmp_path: Path) -> None:
    code, out, _ = finished("run", written(tmp_path, LISTENS))
    assert out == ("listening listen tcp 127.0.0.1:8080: bind "
                   "(to allow it: --listen 127.0.0.1:8080): not allowed by the host\n")
    assert code == 2  # from the nil listener


@pytest.mark.long
def test_a_program_that_may_not_dial_learns_which_option_would_allow_it(tmp_path: Path) -> None:
    code, out, _ = finished("run", written(tmp_path, DIALS))
    assert code == 0
    assert out.splitlines() == [
        'true Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect '
        "(to allow it: --allow-net 127.0.0.1:1): not allowed by the host",
        'true Get "http://name.example/": dial tcp: lookup name.example: lookup '
        "(to allow it: --allow-net name.example:PORT): not allowed by the host"]


@pytest.mark.long
def test_in_stock_go_a_wait_for_connections_that_nobody_can_make_ends_with_a_hint(tmp_path: Path) -> None:
    code, out, said = finished("run", "--model", "single", written(tmp_path, LISTENS))
    assert (code, out) == (2, "listening <nil>\n")
    assert "fatal error: all goroutines are asleep - deadlock!" in said
    assert said.splitlines()[-1] == (
        "gothreads: in stock Go, package net cannot reach the network: use the model threaded, or listen with "
        "guest.Listen of gothreads/guest (needs --allow-net HOST:PORT) or guest.Listener (needs --listen HOST:PORT)")


@pytest.mark.long
def test_a_program_that_starts_another_is_told_to_let_the_host_do_it(tmp_path: Path) -> None:
    code, out, _ = finished("run", written(tmp_path, EXECUTES))
    assert code == 0
    path, unsupported, name, missing = out.splitlines()
    for line in (path, name):
        assert "starts no processes: let the host do it, with guest.Call of gothreads/guest (docs/what-works.md): " in line
    assert path.endswith('exec: "/bin/echo": Not implemented on wasip1')
    assert name.endswith('exec: "echo": executable file not found in $PATH')
    assert (unsupported, missing) == ("true true", "true")
