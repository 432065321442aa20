"""Fixtures of the command line's tests."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gothreads.files import cache_folder, locked
from tests.support.modules import ROOT


@pytest.fixture
def same_folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder, whose path is the same in each run of the tests."""
    with folder_named(re.sub(r"\W", "_", request.node.name)) as folder:
        yield folder


@contextlib.contextmanager
def folder_named(name: str) -> Iterator[Path]:
    """An empty folder, whose path is the same in each run of the tests. One test at a time has it.

    A program's paths are part of its module. So a program that a test writes here has the same module each time, whose
    machine code is in the cache.
    """
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:16]
    folder = cache_folder() / "tests" / checkout / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
