"""examples/typed: a Go library that nobody wrote for Python, in a notebook with NumPy and pandas."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from gothreads.build.builder import build
from gothreads.build.request import Request
from tests.support import modules
from tests.support.command_line import command
from tests.support.modules import ROOT
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.long  # builds the library

EXAMPLE = ROOT / "examples" / "typed"


def debian() -> Any:
    """The example's own script that gets the library."""
    spec = importlib.util.spec_from_file_location("vendor", EXAMPLE / "vendor.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with the library, from Debian's package."""
    if not (got := debian()).DEBIAN.is_dir():
        pytest.skip(f"goldmark is not installed: sudo apt install {got.PACKAGE}")
    folder = tmp_path_factory.mktemp("example") / "typed"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("vendor", "go.sum"))
    subprocess.run([sys.executable, folder / "vendor.py"], check=True)
    with modules.outside_timeout():
        build(Request(str(folder)))
    return folder


def printed(notebook: Any) -> list[str]:
    """What each cell prints."""
    return ["".join(output["text"] for output in cell.outputs
                    if output["output_type"] == "stream" and output["name"] == "stdout")
            for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_prints_what_it_shows(example: Path) -> None:
    notebook = nbformat.read(example / "markdown.ipynb", as_version=4)
    shown = printed(notebook)
    nbclient.NotebookClient(notebook, timeout=int(PATIENCE), kernel_name="python3",
                            resources={"metadata": {"path": str(example)}}).execute()
    assert printed(notebook) == shown
    assert any(shown)


def test_the_command_line_of_its_readme(example: Path) -> None:
    code, out, err = command("call", example, "to_html", "# Hello, *world*", "{}")
    assert (code, out) == (0, '<h1 id="hello-world">Hello, <em>world</em></h1>\n\n'), err
    code, out, err = command("call", example, "read_all", '["# a", "b c"]', "{}")
    assert [json.loads(line)["words"] for line in out.splitlines()] == [[], [2]], err
