"""Documents: the tests that they name are there, and the README's conversation runs as it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

TESTS = Path(__file__).parent
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)::(\w+)`")


def functions_of(file: Path) -> set[str]:
    """The names of the test functions of a file, and of those in its classes."""
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.fixture(params=["models.md", "security.md"])
def text(request: pytest.FixtureRequest) -> str:
    return (TESTS.parent / "docs" / str(request.param)).read_text()


def test_each_test_that_is_named_exists(text: str) -> None:
    named = NAMED.findall(text)
    assert len(named) > 20
    root = TESTS.parent
    missing = [f"{file}::{name}" for file, name in named if not (root / file).is_file() or name not in functions_of(root / file)]
    assert missing == []


def test_each_line_of_a_table_has_its_tests(text: str) -> None:
    referred = {int(number) for numbers in re.findall(r"^\|.*\| ([\d, ]+) \|$", text, re.MULTILINE) for number in numbers.split(",")}
    lists = {int(number): rest for number, rest in re.findall(r"^(\d+)\. ((?:.*\n(?!\d+\.|\n))*.*\n)", text, re.MULTILINE)}
    assert referred == lists.keys() == set(range(1, len(lists) + 1))
    assert all(NAMED.search(rest) for rest in lists.values())
    lines = [line for line in text.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(lines) >= 20
    assert all(re.search(r"\| [\d, ]+ \|$", line) for line in lines), "a line without a test"


def test_the_conversation_of_the_readme_runs_as_it_says(tmp_path: Path) -> None:
    section = (TESTS.parent / "README.md").read_text().split("## Talking with the host")[1]
    (go,), (python,) = (re.findall(rf"```{language}\n(.*?)```", section.split("\n## ")[0], re.DOTALL) for language in ("go", "python"))
    (tmp_path / "shop.go").write_text(go)
    (tmp_path / "run.py").write_text(python)
    with subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["nuts: 4.00 <nil>\n", "anvils: 6.00 <nil>\n"]
            process.communicate("\n", timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0
