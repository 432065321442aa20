"""One query to an index that is sharded over processes or over the nodes of a Ray cluster, and one answer.

    python examples/logsearch/search.py FOLDER...

Each folder is a shard, which searchd (examples/searchd) indexes in a process of its own. Queries come from standard
input, one a line: all shards search at once, and their best hits are merged. With RAY_ADDRESS in the environment,
shards are actors of that Ray cluster; otherwise processes of this machine.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gothreads

#: How many hits are shown; and how long a shard may take, in seconds.
LIMIT, TIMEOUT = 10, 30
#: Asks a shard: what Go's `search` takes, for what it returns.
Ask = Callable[[str, int], "Future[Any]"]


@contextlib.contextmanager
def on_processes(shards: dict[str, gothreads.Remote]) -> Iterator[dict[str, Ask]]:
    """Each shard has an executor of one process, so that all its queries meet the same index."""
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as executors:
        yield {folder: functools.partial(
            go.submit, "search", on=executors.enter_context(ProcessPoolExecutor(1, mp_context=spawn)))
            for folder, go in shards.items()}


@contextlib.contextmanager
def on_ray(shards: dict[str, gothreads.Remote]) -> Iterator[dict[str, Ask]]:
    """Ray places each shard's actor, and starts it again on another node when its own is lost."""
    import ray

    import gothreads.ray
    ray.init()
    try:
        yield {folder: functools.partial(gothreads.ray.actor(go, folder).submit, "search")
               for folder, go in shards.items()}
    finally:
        ray.shutdown()


def search(shards: dict[str, Ask], query: str, limit: int = LIMIT) -> tuple[list[tuple[str, Any]], int, list[str]]:
    """The best hits, each with its folder; how many files there are; and what is to be known of shards.

    A shard that does not answer costs its own hits only. GoError: the query is wrong.
    """
    replies, hits, notes = dict[str, Any](), list[Iterator[tuple[str, Any]]](), list[str]()
    asked = {folder: _asked(ask, query, limit) for folder, ask in shards.items()}
    for folder, future in asked.items():
        try:
            replies[folder] = reply = future.result(TIMEOUT)
        except gothreads.GoError:
            raise
        except Exception as error:  # its process or its node was lost, or it takes too long
            notes.append(f"{folder} is missing: {type(error).__name__}")
            continue
        hits.append(zip(itertools.repeat(folder), reply.hits))
        if reply.note:
            notes.append(f"{folder}: {reply.note}")
    best = heapq.merge(*hits, key=lambda hit: -hit[1].score)  # each shard's are sorted
    return list(itertools.islice(best, limit)), sum(reply.total for reply in replies.values()), notes


def _asked(ask: Ask, query: str, limit: int) -> Future[Any]:
    try:
        return ask(query, limit)
    except Exception as error:  # of an executor whose process was lost
        failed = Future[Any]()
        failed.set_exception(error)
        return failed


def main(folders: list[str]) -> int:
    if not folders or not all(os.path.isdir(folder) for folder in folders):
        sys.exit("usage: python examples/logsearch/search.py FOLDER..., each of which is there")
    searchd = Path(__file__).parent.parent / "searchd"
    go = {folder: gothreads.remote(searchd, args=["/logs"], mounts={"/logs": os.path.abspath(folder)}, procs=1)
          for folder in folders}
    with (on_ray if "RAY_ADDRESS" in os.environ else on_processes)(go) as shards:
        while any("indexing" in note for note in search(shards, "logs", 0)[2]):
            time.sleep(0.1)
        for query in sys.stdin:
            try:
                hits, total, notes = search(shards, query)
            except gothreads.GoError as error:
                print(error, flush=True)
                continue
            for folder, hit in hits:
                print(f"{hit.score:6.2f}  {os.path.join(folder, hit.file)}:{hit.line}: {hit.text}")
            print(*notes, f"{len(hits)} of {total} files, in {len(folders)} shards", sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
