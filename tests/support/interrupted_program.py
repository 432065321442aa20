"""Runs Python programs that Ctrl-C interrupts."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.support.waiting import PATIENCE


def python(code: str, *argv: object) -> str:
    """Run a program, which must end with exit code 0, and return what it prints.

    Beside the imported modules it can use `kill(seconds)`, which sends it Ctrl-C after that time.
    """
    head = """
        import os, random, signal, sys, threading, time
        import gothreads
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        def kill(seconds):
            threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    """
    command = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout
