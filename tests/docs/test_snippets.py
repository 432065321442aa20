"""The snippets of README.md, CONTRIBUTING.md and docs/ run as they are pasted."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from gothreads.files import cache_folder
from tests.docs.go_proxy import go_environment
from tests.docs.snippets import needs_curl, session, snippets
from tests.support.modules import ROOT

#: Pages whose blocks are drawings, or are run by tests/examples/test_other_languages.py.
WITHOUT = {"other-languages", "ARCHITECTURE", "RATIONALE"}
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if page.stem not in WITHOUT)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def folder() -> Path:
    """A folder of this checkout's own, which is kept, so that Go programs are linked again only when they change."""
    kept = cache_folder() / "tests" / f"docs-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(400)  # the first run builds
@pytest.mark.parametrize("page",
                         [pytest.param(page, id=name(page), marks=[] if page.stem == "README" else [pytest.mark.long])
                          for page in PAGES])
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path) -> None:
    if needs_curl(page):
        pytest.skip("no curl on this machine")
    blocks = snippets(page)
    place = folder() / "pages"
    place.mkdir(exist_ok=True)
    if not (place / "app.go").exists() or (place / "app.go").read_text() != (ROOT / "docs" / "app.go").read_text():
        shutil.copy(ROOT / "docs" / "app.go", place)
    variables = go_environment(place) if "go get " in page.read_text() else {}
    with session(place, tmp_path / "output", variables) as running:
        for block in blocks:
            running.run(block)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
                         ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target, anchor in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        there = page if not target else (page.parent / target)
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text()), f"{page.name}: {target}#{anchor}"


def anchors(text: str) -> set[str]:
    """The anchors that code hosts give to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md")),
                                  *sorted(page for folder in ("examples", "benchmarks", "stress")
                                          for page in (ROOT / folder).rglob("*.md"))], ids=name)
def test_the_prose_of_a_page_has_lines_of_120_characters(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|^<!--[^\n]*begin -->$.*?^<!--[^\n]*end -->$", "", page.read_text(),
                  flags=re.DOTALL | re.MULTILINE)
    # Not tables, code, or what cannot be broken, such as a long name.
    long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "    "))]
    assert [line for line in long if " " in line.lstrip("0123456789. -*")] == []


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "docs" / "README.md").read_text()
    linked = {target for target, _ in LINK.findall(contents)}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked


def test_what_the_readme_installs_are_extras() -> None:
    texts = [page.read_text() for page in PAGES]
    named = {extra for text in texts for group in re.findall(r"pip install[^\n`]*\[([\w,]+)\]", text)
             for extra in group.split(",")}
    declared = set(
        re.findall(
            r"^(\w+) = \[",
            (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0],
            re.MULTILINE,
        )
    )
    assert named
    assert named <= declared
