"""Fixtures: what Go's linker makes of programs (with the overlay), before gothreads rewrites it. Default: `calls`."""

from __future__ import annotations

import pytest

from gothreads.build.linking import link
from gothreads.build.request import Request
from gothreads.wasm.binary import Module
from gothreads.wasm.parsing import parse
from tests.support import timeouts
from tests.support.modules import MODULES


def _linked(name: str) -> bytes:
    with timeouts.paused():
        return link(Request(str(MODULES / name))).content


@pytest.fixture(scope="session")
def linked() -> bytes:
    return _linked("calls")


@pytest.fixture(scope="session")
def linked_hostcalls() -> bytes:
    """A program that imports functions of its own."""
    return _linked("hostcalls")


@pytest.fixture(scope="session")
def module(linked: bytes) -> Module:
    """The same, parsed. Tests change copies of it: `dataclasses.replace`."""
    return parse(linked)
