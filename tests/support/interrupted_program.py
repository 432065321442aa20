"""A program that is interrupted by Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def python(code: str, *argv: object) -> str:
    """What a program prints, that has `random`, `signal`, `time`, and `kill`: Ctrl-C so many seconds from now. It ends with 0."""
    head = """
        import os, random, signal, sys, threading, time
        import gothreads
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        def kill(seconds):
            threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *map(str, argv)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout
