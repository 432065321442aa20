"""Fixtures: what Go's linker makes of programs (with the overlay), before gothreads rewrites it. Default: `calls`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gothreads.build.builder import Request, build
from gothreads.wasm.binary import Module
from gothreads.wasm.parsing import parse
from tests.support import timeouts
from tests.support.modules import MODULES


def _linked(name: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    cache: Path = tmp_path_factory.mktemp("cache")  # an empty one, since linked files are not kept for ever
    with timeouts.paused(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOTHREADS_CACHE", str(cache))
        build(Request(str(MODULES / name)))
    (file,) = cache.glob("linked/*/linked.wasm")
    return file.read_bytes()


@pytest.fixture(scope="session")
def linked(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _linked("calls", tmp_path_factory)


@pytest.fixture(scope="session")
def linked_hostcalls(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program that imports functions of its own."""
    return _linked("hostcalls", tmp_path_factory)


@pytest.fixture
def module(linked: bytes) -> Module:
    return parse(linked)
