"""Writes docs/what-works.md: runs small Go programs here and natively, and says what works, differs, or does not.

    python -m tests.docs.what_works > docs/what-works.md

A row is one program of tests/docs/programs/works, or one command. It works if the program prints the same as its native
build, does not if it reports an error or ends, and differs otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gothreads
from gothreads.build.builder import build
from gothreads.build.overlay import write_overlay
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.files import cache_folder
from tests.docs.what_works_rows import ROWS, Row

PROGRAMS = Path(__file__).parent / "programs"

HEAD = """# What works in a Go program, and what does not

Go's language, runtime and standard library are Go's own. What differs comes from WebAssembly, from WASI, and from the
sandbox: a module reaches only what it is given. Each line below is a small Go program
([`tests/docs/programs`](../tests/docs/programs)), or a command, which a test runs. *Works* means that the program
prints the same as its native build. This page is written by

```text
python -m tests.docs.what_works > docs/what-works.md
```

It is about the model `threaded`. [`models.md`](models.md) has the others, and [`conformance`](../conformance) has Go's
own tests of its whole standard library.
"""


@dataclass(frozen=True)
class Found:
    """What a row's program did here. `text`: what it printed, or the error."""

    outcome: str
    text: str


@dataclass(frozen=True)
class _Printed:
    kind: str  # ok, error or ended
    text: str


def page(found: dict[Row, Found]) -> str:
    """The page for what the rows' programs did."""
    lines = [HEAD]
    group = ""
    for row, result in found.items():
        if row.group != group:
            group = row.group
            lines.append(f"\n## {group}\n\n| | | here | instead |\n|---|---|---|---|\n")
        says = f"`{_cell(result.text)}`" if result.text and result.outcome != "works" else ""
        lines.append(f"| {row.what} | {_MARKS[result.outcome]} | {says} | {row.instead} |\n")
    return "".join(lines)


#: Characters of an error.
_MOST_SHOWN = 110
_MARKS = {"works": "works", "differs": "**differs**", "does not": "**does not**"}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def run_all() -> dict[Row, Found]:
    """Run each row's program."""
    with _peers() as peers:
        return {row: _command(row) if row.command else _compare(row, peers) for row in ROWS}


@functools.cache
def module() -> Path:
    """The programs, built for threads."""
    return build(Request(str(PROGRAMS / "works"))).path


@functools.cache
def native() -> Path:
    """The native build of the programs. The package gothreads/guest comes from an overlay, as in a module."""
    toolchain = find_go(None)
    overlay = write_overlay(toolchain, cache_folder(), threaded=False)
    built = cache_folder() / "tests" / "works-native"
    built.parent.mkdir(exist_ok=True)
    subprocess.run([toolchain.go, "build", "-overlay", overlay, "-o", built, "."], cwd=PROGRAMS / "works",
                   env=os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": ""}, check=True)
    return built


def _compare(row: Row, environment: dict[str, str]) -> Found:
    with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as other:
        here, natively = _run_here(row, Path(own), environment), _run_native(row, Path(other), environment)
    if natively.kind != "ok" and row.program != "exit":
        raise RuntimeError(f"natively {row.program} fails too: {natively.text}")
    if here == natively:
        return Found("works", here.text)
    if here.kind == "ok":
        return Found("differs", here.text)
    return Found("does not", here.text)


def _run_here(row: Row, folder: Path, environment: dict[str, str]) -> _Printed:
    out = io.BytesIO()
    zones = {"/zones": Path(find_go(None).goroot, "lib", "time")} if row.zones else {}
    peers = environment | {"SOCKET": f"{folder}/socket"} if row.group == "Network" else {}
    env = peers | ({"ZONEINFO": "/zones/zoneinfo.zip"} if row.zones else {})
    allowed = ["127.0.0.1:*", f"unix:{folder}/socket"]
    try:
        with gothreads.open(module(), args=[row.program, "/dir"], mounts={"/dir": folder, **zones}, env=env,
                            allow_net=allowed, procs=2, stdout=out, stderr=io.BytesIO()) as app:
            try:
                code, error = app.wait(60), app.error
            except TimeoutError:
                raise RuntimeError(f"{row.program} does not end:\n{app.goroutines(10)}") from None
    except gothreads.GuestError as early:  # it has ended before open() returns
        code, error = early.code, early
    if code is None:
        raise RuntimeError(f"{row.program}: {error}") from error
    return _printed(out.getvalue().decode(), code, "/dir", str(error))


def _run_native(row: Row, folder: Path, environment: dict[str, str]) -> _Printed:
    zones = {"ZONEINFO": f"{find_go(None).goroot}/lib/time/zoneinfo.zip"}
    own = {"GOMAXPROCS": "2", "TZ": "Asia/Tokyo", "SOCKET": f"{folder}/socket"}
    done = subprocess.run([native(), row.program, folder], cwd=folder,
                          env=os.environ | environment | zones | own,
                          capture_output=True, text=True, timeout=60)
    return _printed(done.stdout, done.returncode, str(folder), done.stderr)


def _printed(out: str, code: int, folder: str, ended: str) -> _Printed:
    kind, _, text = out.strip().replace(folder, "DIR").partition(" ")
    if not kind:
        return _Printed("ended", f"exit code {code}" if "panic" not in ended and "fatal" not in ended
                        else _error(ended))
    return _Printed(kind, _error(text) if kind == "error" else text)


def _error(text: str) -> str:
    """An error without what differs from run to run."""
    line = text.strip().split("\n")[0].partition("the module has ended: ")
    text = re.sub(r"127\.0\.0\.1:\d+|\[::1\]:\d+", "127.0.0.1:PORT", line[2] or line[0])
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


def _command(row: Row) -> Found:
    """Run a command in the programs' folder. `row.says` picks the line that says what happened."""
    command = [sys.executable, "-m", "gothreads",
               *row.command[1:]] if row.command[0] == "gothreads" else list(row.command)
    with tempfile.TemporaryDirectory() as output:
        done = subprocess.run([word.replace("OUT", output) for word in command], cwd=PROGRAMS, capture_output=True,
                              text=True,
                              env=os.environ | {"COLUMNS": "200"}, timeout=400)
    if done.returncode == 0:
        return Found("works", "")
    found = re.search(row.says, done.stdout + done.stderr)
    if found is None:
        raise RuntimeError(f"{row.command}: nothing like {row.says!r} in\n{done.stdout}{done.stderr}")
    return Found("does not", found[0])


@contextlib.contextmanager
def _peers() -> Iterator[dict[str, str]]:
    """Servers to connect to, as environment variables: one that greets, one that is silent, one of HTTP, and one
    that connects to an address that it is told."""
    with socket.create_server(("127.0.0.1", 0)) as greeting, socket.create_server(("127.0.0.1", 0)) as silent, \
            socket.create_server(("127.0.0.1", 0)) as caller, \
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        for server, answer in ((greeting, _greet), (caller, _call)):
            threading.Thread(target=_serve, args=(server, answer), daemon=True).start()
        try:
            yield {"PEER": _address(greeting), "SILENT": _address(silent), "WEB": _address(web.socket),
                   "CALLER": _address(caller)}
        finally:
            web.shutdown()
            for server in (greeting, caller):
                server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    with contextlib.suppress(OSError):
        while True:
            with server.accept()[0] as connection, contextlib.suppress(OSError):  # a client may have gone
                answer(connection)


def _greet(connection: socket.socket) -> None:
    connection.sendall(b"hello")


def _call(connection: socket.socket) -> None:
    """Connect to the address that is named, and pass on what is read there."""
    host, port = connection.makefile().readline().strip().split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=10) as found:
        connection.sendall(found.recv(100))


def _address(server: socket.socket) -> str:
    host, port = server.getsockname()
    return f"{host}:{port}"


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    print(page(run_all()), end="")
