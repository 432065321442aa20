"""examples/searchd: while it indexes and goes on watching a folder, any number of callers ask, and get what grep would
find.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.support.modules import built
from tests.support.waiting import together, wait_until

WORD = re.compile(r"\w+")
VOCABULARY = ["alpha", "beta", "gamma", "delta", "Epsilon", "mutex_t", "x86", "größe", "λόγος"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """200 files in 20 folders, and some that are not to be indexed."""
    root = tmp_path / "tree"
    seeded = random.Random(42)
    for n in range(200):
        file = root / f"d{n % 20}" / "deeper" / f"file{n}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [" ".join(seeded.choices([*VOCABULARY, f"only{n}"], k=5)) for _ in range(seeded.randrange(1, 20))]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "binary").write_bytes(b"alpha\0beta")
    (root / "large").write_text("alpha " * 800_000)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("alpha")
    (root / "link").symlink_to(root / "d0" / "deeper" / "file0.txt")
    return root


@pytest.fixture
def searchd(folder: Path) -> Iterator[gothreads.App]:
    with open(os.devnull, "wb") as null, gothreads.open(built("searchd"), args=["/data"], mounts={"/data": folder},
                                                        stderr=null) as app:
        yield app


def search(app: gothreads.App, query: str, **more: Any) -> dict[str, Any]:
    return dict(json.loads(app.request("search", json.dumps({"query": query} | more))))


def words(root: Path) -> dict[str, set[str]]:
    """What each file has, read by plain Python."""
    files = [f for f in root.rglob("*.txt") if not f.is_symlink()]
    return {str(f.relative_to(root)): set(WORD.findall(f.read_text(encoding="utf-8").lower())) for f in files}


def wait_for_documents(app: gothreads.App, number: int) -> None:
    wait_until(lambda: app.exports.documents() == number)


def test_documents_grow_while_it_answers(searchd: gothreads.App) -> None:
    seen = [0]

    def grown() -> bool:
        reply = search(searchd, "alpha", limit=0)
        seen.append(reply["documents"])
        if "note" in reply:
            assert reply["note"] == f"still indexing, {seen[-1]} files so far"
            return False
        return True
    wait_until(grown)
    assert seen == sorted(seen)
    assert seen[-1] == 200
    assert searchd.exports.documents() == 200
    assert searchd.exports.generation() == 200


def test_results_are_what_grep_finds(searchd: gothreads.App, folder: Path) -> None:
    wait_for_documents(searchd, 200)
    files = words(folder)
    for query in [*VOCABULARY, "only7", "only150", "alpha beta", "Alpha GAMMA x86", "größe only3", "nowhere",
                  "alpha nowhere"]:
        wanted = set(WORD.findall(query.lower()))
        expected = {name for name, has in files.items() if wanted <= has}
        reply = search(searchd, query, limit=1000)
        assert {hit["file"] for hit in reply["hits"]} == expected
        assert reply["total"] == len(expected)
        for hit in reply["hits"]:
            lines = (folder / hit["file"]).read_text(encoding="utf-8").splitlines()
            common = [len(wanted & set(WORD.findall(line.lower()))) for line in lines]
            assert hit["line"] == common.index(max(common)) + 1
            assert hit["text"] == lines[hit["line"] - 1]
        assert [hit["score"] for hit in reply["hits"]] == sorted((hit["score"] for hit in reply["hits"]), reverse=True)


def test_occurrences_counts_the_files_with_a_word(searchd: gothreads.App, folder: Path) -> None:
    wait_for_documents(searchd, 200)
    files = words(folder)
    for word in [*VOCABULARY, "ALPHA", "only9", "nowhere", ""]:
        assert searchd.exports.occurrences(word) == sum(word.lower() in has for has in files.values())


def test_a_limit_limits_the_hits_and_not_the_total(searchd: gothreads.App) -> None:
    wait_for_documents(searchd, 200)
    total = searchd.exports.occurrences("alpha")
    assert [(len(r["hits"]), r["total"])
            for r in (search(searchd, "alpha", limit=n) for n in (0, 1, 25))] == [(0, total), (1, total), (25, total)]
    assert len(search(searchd, "alpha")["hits"]) == 10


@pytest.mark.long
def test_new_changed_and_removed_files_are_noticed(searchd: gothreads.App, folder: Path) -> None:
    wait_for_documents(searchd, 200)
    (folder / "new.txt").write_text("brandnew word")
    wait_for_documents(searchd, 201)
    assert [h["file"] for h in search(searchd, "brandnew")["hits"]] == ["new.txt"]

    (folder / "new.txt").write_text("another word here")
    wait_until(lambda: searchd.exports.occurrences("another") == 1)
    assert searchd.exports.occurrences("brandnew") == 0

    (folder / "new.txt").unlink()
    shutil.rmtree(folder / "d3")
    wait_for_documents(searchd, 190)
    assert searchd.exports.occurrences("another") == 0
    assert searchd.exports.occurrences("only3") == 0


@pytest.mark.parametrize(("payload", "said"), [
    (b"", "the request must be like"),
    (b"alpha", "the request must be like"),
    (b'{"query": 3}', "the request must be like"),
    (b"{}", "query has no words"),
    (b'{"query": "..."}', "query has no words"),
    (b'{"query": "alpha", "limit": -1}', "limit is -1: it cannot be negative"),
])
def test_a_wrong_request_is_an_error_and_the_module_goes_on(searchd: gothreads.App, payload: bytes, said: str) -> None:
    with pytest.raises(gothreads.HandlerError, match=re.escape(said)):
        searchd.request("search", payload)
    wait_for_documents(searchd, 200)


@pytest.mark.long
def test_many_ask_while_files_change_and_each_file_is_seen_whole(searchd: gothreads.App, folder: Path) -> None:
    wait_for_documents(searchd, 200)
    steady = searchd.exports.occurrences("alpha")

    def change() -> None:
        for n in range(20):  # always with both words, or gone
            (folder / "changing.txt").write_text(f"leftword rightword number{n} {'x ' * n}")
        wait_until(lambda: searchd.exports.occurrences("leftword") == 1)
        (folder / "changing.txt").unlink()

    def query() -> None:
        for _ in range(100):
            assert search(searchd, "alpha", limit=0)["total"] == steady
            assert search(searchd, "leftword rightword", limit=0)["total"] in (0, 1)
            reply = search(searchd, "alpha beta", limit=3)
            assert len(reply["hits"]) == 3
    together(change, query, query, query)
    wait_until(lambda: searchd.exports.occurrences("leftword") == 0)


@pytest.mark.parametrize(("args", "said"),
                         [([], "searchd: it takes one folder\n"),
                          (["/nowhere"], 'searchd: cannot read the folder "/nowhere", is it there')])
def test_without_a_folder_that_it_can_read_it_ends_with_usage(args: list[str], said: str) -> None:
    # It ends at once, or just after it was opened.
    error: gothreads.GothreadsError | None
    try:
        with open(os.devnull, "wb") as null, gothreads.open(built("searchd"), args=args, stderr=null) as app:
            app.wait()
            error = app.error
    except gothreads.GuestExit as ended:
        error = ended
    assert isinstance(error, gothreads.GuestExit)
    assert error.code == 2
    assert error.stderr.startswith(said)
    assert "usage: searchd FOLDER" in error.stderr
