"""Starts the command `gothreads` as a fork of a process that has made its imports, which are most of a start's cost.

The test's process cannot be forked, since it has threads. So it starts a parent, this module, and sends it the command
lines with the descriptors of the streams. The child runs the command as the console script does, to the end of Python.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO


class Forked:
    """A running command, as subprocess.Popen has one, with pipes for its output. Its standard input is empty."""

    def __init__(self, *argv: str) -> None:
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        told, told_end = os.pipe()
        request = json.dumps([argv, dict(os.environ), os.getcwd()]).encode()
        socket.send_fds(_parent(), [request], [out_end, err_end, told_end])
        for end in (out_end, err_end, told_end):
            os.close(end)
        self.stdout, self.stderr, self._told = open(out), open(err), open(told)  # noqa: SIM115
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("gothreads", timeout or 0)
            self.returncode = int(self._told.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        with ThreadPoolExecutor(2) as threads:
            texts = [threads.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, err = (text.result() for text in texts)
        for stream in (self.stdout, self.stderr, self._told):
            stream.close()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _rest(stream: TextIO) -> str:
    return "" if stream.closed else stream.read()


@functools.cache
def _parent() -> socket.socket:
    """The connection to the parent, which ends when this process does."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        subprocess.Popen([sys.executable, "-m", "tests.support.forked", str(there.fileno())], pass_fds=[there.fileno()],
                         cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return here


def _become_child(requests: socket.socket) -> None:
    """Fork for each request. Returns in the children, as what was asked for."""
    while True:
        request, streams, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            os._exit(0)
        if os.fork() == 0:  # which tells how the command ends
            requests.close()
            out, err, told = streams
            child = os.fork()
            if child == 0:
                argv, environment, folder = json.loads(request)
                os.environ.clear()
                os.environ.update(environment)
                os.chdir(folder)
                os.dup2(out, 1)
                os.dup2(err, 2)
                sys.argv = ["gothreads", *argv]
                os.closerange(3, max(streams) + 1)
                return
            os.write(told, f"{child}\n".encode())
            for stream in (out, err):
                os.close(stream)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.write(told, f"{status}\n".encode())
            os._exit(0)
        for stream in streams:
            os.close(stream)


if __name__ == "__main__":
    from gothreads.cli.main import run

    importlib.import_module("gothreads.serve.server")  # which the command imports only when it serves
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the terminal, where it is for pytest
    _become_child(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
