"""Builds a server and its clients, runs them, and ends the server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.building import environment
from conformance.debian import Debian
from conformance.servers.cases import OWN, Server
from gothreads.build.toolchain import Toolchain
from gothreads.errors import CompileError
from gothreads.wasi.network_rules import host_and_port

GOPATH = Path(__file__).parent / "gopath"
_START_SECONDS, _END_SECONDS = 600, 120
_KEPT = 4000  # characters of a server's output


class Failed(Exception):
    """A server or its clients ended as they must not. The message says how, with what they have written."""


@dataclass(frozen=True)
class Served:
    """What a server's clients measured. Latencies in milliseconds."""

    exchanges: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Programs:
    """Builds the servers for threads, and the clients natively. `progress` is called with what is being done."""

    def __init__(self, toolchain: Toolchain, debian: Debian, work: Path, progress: Callable[[str], None]) -> None:
        self._go, self._share, self._work, self._progress = toolchain.go, debian.root / "usr/share", work, progress
        # GOPATH mode: Debian's packages are found by their paths, without modules and the Internet.
        self._mode = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{GOPATH}:{debian.gopath}"}

    def server(self, server: Server) -> Path:
        program = (GOPATH / "src" if server.program.startswith(OWN) else self._share) / server.program
        output = self._work / f"{program.parent.name}-{program.stem}.wasm"
        return self._built(output, program.parent, sys.executable, "-m", "gothreads", "build", str(program), "-o",
                           str(output), "--go", str(self._go))

    def client(self, name: str) -> Path:
        output = self._work / name
        return self._built(output, GOPATH / "src" / OWN / "clients" / name, str(self._go), "build", "-o", str(output),
                           ".")

    def _built(self, output: Path, folder: Path, *command: str) -> Path:
        if not output.exists():
            self._progress(f"building {output.name}")
            done = subprocess.run(command, cwd=folder, env=environment("native") | self._mode, capture_output=True,
                                  text=True)
            if done.returncode:
                raise CompileError(f"{output.name} does not build", done.stderr)
        return output


def serve(server: Server, module: Path, client: Path, work: Path, *, clients: int, seconds: float) -> Served:
    """Run the server and its clients, and end the server with SIGTERM. Failed if anything is not as it must be."""
    folder = work / f"{server.name}-files"
    folder.mkdir()
    values = {"host": server.host, "port": server.port or _free_port(server.host),
              "other": _free_port(server.host), "folder": folder}

    def filled(texts: tuple[str, ...]) -> list[str]:
        return [text.format_map(values) for text in texts]
    for name, text in server.files:
        (folder / name).write_text(text.format_map(values))
    command = [*filled(server.options), str(module), *filled(server.arguments)]
    address = server.address.format_map(values)
    with _running(command, address, server.ends, work / "log"):
        done = subprocess.run([client, "-address", address, "-clients", str(clients), "-time", f"{seconds}s",
                               *filled(server.client_arguments)], capture_output=True, text=True,
                              timeout=_START_SECONDS + seconds)
        if done.returncode:
            raise Failed(f"the client failed: {done.stderr.strip()[-_KEPT:]}")
    figures = json.loads(done.stdout)
    return Served(int(figures["exchanges"]), figures["seconds"], figures["p50_ms"], figures["p99_ms"])


@contextlib.contextmanager
def _running(arguments: list[str], address: str, ends: int, log: Path) -> Iterator[None]:
    """A server, from when it listens at the address, until SIGTERM, after which it must end with the code `ends`.

    Its output goes to the log, whose end is in the message of Failed.
    """
    with log.open("wb") as output, subprocess.Popen([sys.executable, "-m", "gothreads", "run", *arguments],
                                                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                                    env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        try:
            _wait_for(process, arguments, address, log)
            yield
            if process.poll() is not None:
                raise Failed(f"the server has ended, with {process.returncode}")
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(_END_SECONDS)) != ends:
                raise Failed(f"the server ended with {code}, not {ends}, after SIGTERM")
        except (Failed, subprocess.TimeoutExpired) as error:
            raise Failed(f"{error}\nThe server's output:\n{_end(log)}") from None
        finally:
            process.kill()


def _wait_for(process: subprocess.Popen[bytes], command: list[str], address: str, log: Path) -> None:
    """Wait until the program runs, which may have to be compiled to machine code first, and listens."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None:
        if _listens(address, log, handed="--listen" in command):
            return
        if time.monotonic() > deadline:
            raise Failed(f"the server does not listen after {_START_SECONDS} s")
        time.sleep(0.05)
    raise Failed(f"the server ended with {process.returncode} before it listened")


def _listens(address: str, log: Path, *, handed: bool) -> bool:
    """Whether the program can answer. `handed`: it gets its listener by --listen, where connections wait even before
    that; so the command says when the program runs.
    """
    if handed:
        return f"listening on {address}" in log.read_text(errors="replace")
    with contextlib.suppress(OSError), socket.create_connection(host_and_port(address)):
        return True
    return False


def _end(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, os.path.getsize(log) - _KEPT))
        return file.read().decode(errors="replace").strip()


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
