"""What Go's linker made of `calls` (with the overlay), before gothreads rewrites it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gothreads.wasm.binary import Module
from gothreads.wasm.parsing import parse
from tests.conftest import built


@pytest.fixture(scope="session")
def linked(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    cache: Path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOTHREADS_CACHE", str(cache))
        built("calls")
    (file,) = cache.glob("linked/*/linked.wasm")
    return file.read_bytes()


@pytest.fixture
def module(linked: bytes) -> Module:
    return parse(linked)
