"""Go's tools that read profiles. Go compiles them when they are first used, which takes minutes on a loaded machine."""

from __future__ import annotations

import functools
import subprocess

from gothreads.build.toolchain import find_go
from tests.support import modules


def go_tool(name: str, *arguments: object) -> str:
    """What `go tool NAME` prints."""
    _make(name)
    done = subprocess.run([str(find_go().go), "tool", name, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def _make(name: str) -> None:
    with modules.outside_timeout():
        subprocess.run([str(find_go().go), "tool", name, "-h"], capture_output=True)
