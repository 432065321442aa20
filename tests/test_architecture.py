"""The rooms of docs/ARCHITECTURE.md: each imports only itself and those above it, and no two modules import each
other.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gothreads
from tests.support.modules import ROOT

PACKAGE = Path(gothreads.__file__).parent
#: From the lowest to the highest, as in docs/ARCHITECTURE.md.
ROOMS = ("requirements", "version", "text", "errors", "files", "cache", "output", "wasm", "profiles", "build",
         "engine", "sync", "shared_memory",
         "wasi", "bridge", "mpool", "callback_m", "typed", "runtime", "launch", "remote", "packages", "supervise", "serve", "dask", "ray", "tools", "cli")
#: The public names, and `python -m gothreads`: they import from all rooms.
FACADES = ("gothreads", "gothreads.__main__")
#: Rooms that use gothreads as its users do.
USERS = ("tools",)


@functools.cache
def modules() -> dict[str, Path]:
    paths = [path for path in PACKAGE.rglob("*.py") if "goroot" not in path.parts]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
             for path in paths]
    return dict(zip(names, paths, strict=True))


def room(module: str) -> str:
    return module.split(".")[1]


def imports(module: str) -> Iterator[str]:
    """The modules of gothreads that it imports, anywhere in it: in functions and for type checkers, too."""
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        match node:
            case ast.Import(names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(source), names=names):
                found = [f"{source}.{alias.name}" for alias in names]
            case ast.ImportFrom():
                raise AssertionError(f"{module}: a relative import")
            case _:
                continue
        for name in found:
            while name and name not in modules():
                name = name.rpartition(".")[0]
            if name and name != module:
                yield name


@pytest.mark.parametrize("module", sorted(set(modules()) - set(FACADES)))
def test_a_module_imports_only_its_own_room_and_those_above(module: str) -> None:
    below = {name for name in imports(module)
             if (name == "gothreads" and room(module) not in USERS)
             or (name != "gothreads" and ROOMS.index(room(name)) > ROOMS.index(room(module)))}
    assert below == set()


def test_no_modules_import_each_other() -> None:
    graph = {module: [name for name in imports(module) if name not in FACADES] for module in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_the_document_has_the_rooms_in_this_order() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    table = text[text.index("| room |"):text.index("## A module")]
    named = [name.rstrip("/") for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
             for name in re.findall(r"`([^`]+)`", row)]
    assert named == list(ROOMS)
