"""Starts the command as systemd does a service with sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.support.command_line import GOTHREADS

#: The listeners are descriptors from 3 on, and the environment says so. They are moved out of the way first.
_STARTER = """
import os, sys
given = [os.dup2(int(each), 100 + at) for at, each in enumerate(sys.argv[1].split())]
for at, descriptor in enumerate(given):
    os.dup2(descriptor, 3 + at)
names = ":".join(f"name{at}" for at in range(len(given)))
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": names}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def started_with(sockets: Sequence[socket.socket], *argv: object, **options: Any) -> subprocess.Popen[Any]:
    """Start the real command with these listeners, whose names are name0, name1 and so on."""
    numbers = [each.fileno() for each in sockets]
    return subprocess.Popen([sys.executable, "-c", _STARTER, " ".join(map(str, numbers)), *GOTHREADS[1:],
                             *map(str, argv)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=numbers,
                            **options)
