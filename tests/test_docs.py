"""Documents: the tests that they name are there. (tests/docs runs their snippets.)"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)::(\w+)`")


def functions_of(file: Path) -> set[str]:
    """The names of the test functions of a file, and of those in its classes."""
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")}


@pytest.fixture(params=["models.md", "security.md"])
def text(request: pytest.FixtureRequest) -> str:
    return (TESTS.parent / "docs" / str(request.param)).read_text()


@pytest.mark.long
def test_each_test_that_is_named_exists(text: str) -> None:
    named = NAMED.findall(text)
    assert len(named) > 20
    root = TESTS.parent
    missing = [f"{file}::{name}" for file, name in named if not (root / file).is_file()
               or name not in functions_of(root / file)]
    assert missing == []


def test_each_line_of_a_table_has_its_tests(text: str) -> None:
    referred = {int(number) for numbers in re.findall(r"^\|.*\| ([\d, ]+) \|$", text, re.MULTILINE)
                for number in numbers.split(",")}
    lists = {int(number): rest
             for number, rest in re.findall(r"^(\d+)\. ((?:.*\n(?!\d+\.|\n))*.*\n)", text, re.MULTILINE)}
    assert referred == lists.keys() == set(range(1, len(lists) + 1))
    assert all(NAMED.search(rest) for rest in lists.values())
    lines = [line for line in text.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(lines) >= 20
    assert all(re.search(r"\| [\d, ]+ \|$", line) for line in lines), "a line without a test"


@pytest.mark.parametrize("page", ["README.md", "docs/containers.md"])
def test_what_a_call_costs_is_the_figure_of_one_page(page: str) -> None:
    root = TESTS.parent
    exact = re.search(r"^\| gothreads, in C \| ([\d.]+) \|", (root / "docs" / "performance.md").read_text(), re.MULTILINE)
    said = re.search(r"([\d.]+) µs\]\((?:docs/)?performance\.md#a-call\)|performance\.md#a-call\): ([\d.]+) µs",
                     (root / page).read_text())
    assert exact is not None
    assert said is not None
    assert float(said[1] or said[2]) == round(float(exact[1]), 1)
