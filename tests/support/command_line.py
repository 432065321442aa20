"""Runs the `gothreads` command, in this process or as a separate one."""

from __future__ import annotations

import io
import re
import subprocess
import sys

from gothreads.cli.main import main


def command(*argv: object) -> tuple[int, str, str]:
    """Run main in this process: exit code, standard output, standard error without the compiler's progress lines."""
    out, err = io.StringIO(), io.StringIO()
    code = main([str(a) for a in argv], out, err)
    return code, out.getvalue(), re.sub(r"gothreads: compil[^\n]*\n", "", err.getvalue())


#: The console script. Resets SIGINT, which background jobs of a shell ignore and their child processes inherit.
GOTHREADS = [sys.executable, "-c",
             "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gothreads_command import "
             "run; run()"]


def process(*argv: object, **options: object) -> subprocess.Popen[bytes]:
    """Start the real command."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*GOTHREADS, *map(str, argv)], **streams)  # type: ignore[call-overload, no-any-return]


def finished(*argv: object, stdin: bytes = b"", **options: object) -> tuple[int, str, str]:
    """Run the real command to its end: exit code, standard output, standard error. Only the test's timeout limits it,
    since it may build a module."""
    with process(*argv, stdin=subprocess.PIPE, **options) as running:
        try:
            out, err = running.communicate(stdin)
        except BaseException:
            running.kill()
            raise
    return running.returncode, out.decode(), re.sub(r"gothreads: compil[^\n]*\n", "", err.decode())
