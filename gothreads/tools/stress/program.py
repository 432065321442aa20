"""The Go program of the scenarios, as a module, and what it imports."""

from __future__ import annotations

import functools
import struct
import time
from dataclasses import replace
from pathlib import Path

import gothreads.runtime.app
from gothreads.build.builder import Progress, Request, build
from gothreads.launch import OpenOptions
from gothreads.runtime.module_file import LoadedModule, load
from gothreads.tools.stress.context import Plan

FOLDER = Path(__file__).parent / "scenarios"
_NUMBER = struct.Struct("<q")


def request(plan: Plan) -> Request:
    """How the program is built for a plan."""
    return Request(str(FOLDER), sharpen=plan.sharpen)


def scenarios(plan: Plan, progress: Progress | None = None) -> LoadedModule:
    """The program, built for threads, or found built. BuildError when there is no Go. From any thread."""
    return _built(request(plan), progress)


@functools.cache  # asking Go whether all is up to date takes a second
def _built(wanted: Request, progress: Progress | None) -> LoadedModule:
    return replace(load(build(wanted, progress).path), name=FOLDER.name)


def again(depth: int, n: int, context: gothreads.runtime.app.Context) -> int:
    """Back into the module, from inside."""
    return int(context.app.exports.descend(depth, n))


def pause(microseconds: int) -> None:
    time.sleep(microseconds / 1e6)


def double(payload: bytes) -> bytes:
    """The handler: twice a number."""
    (n,) = _NUMBER.unpack(payload)
    return _NUMBER.pack(2 * n)


def imports() -> OpenOptions:
    """How the program is opened."""
    return OpenOptions(host={"env": {"again": again, "pause": pause}}, handlers={"double": double})
