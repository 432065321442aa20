"""The Go program of the scenarios: how it is built, and what it imports."""

from __future__ import annotations

import functools
import struct
import time
from dataclasses import replace
from pathlib import Path

import gothreads.runtime.app
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.launch import OpenOptions
from gothreads.runtime.module_file import LoadedModule, load
from gothreads.tools.stress.scenario_context import StressPlan

FOLDER = Path(__file__).parent / "scenarios"
_NUMBER = struct.Struct("<q")


def request(plan: StressPlan) -> Request:
    """How the program is built for a plan."""
    return Request(str(FOLDER), sharpen=plan.sharpen)


def scenarios(plan: StressPlan) -> LoadedModule:
    """The program, built for threads unless it is in the cache. BuildError when there is no Go. For any thread."""
    return _built(request(plan))


@functools.cache  # asking Go whether everything is up to date takes a second
def _built(build_request: Request) -> LoadedModule:
    return replace(load(build(build_request).path), name=FOLDER.name)


def again(depth: int, n: int, context: gothreads.runtime.app.Context) -> int:
    """Calls back into the module."""
    return int(context.app.exports.descend(depth, n))


def pause(microseconds: int) -> None:
    time.sleep(microseconds / 1e6)


def double(payload: bytes) -> bytes:
    """The handler: returns twice the number."""
    (n,) = _NUMBER.unpack(payload)
    return _NUMBER.pack(2 * n)


def imports() -> OpenOptions:
    """How the program is opened."""
    return OpenOptions(host={"env": {"again": again, "pause": pause}}, handlers={"double": double})
