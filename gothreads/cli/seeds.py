"""Runs a program once for each seed until a run fails: `gothreads test --seeds`."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import BinaryIO

from gothreads.errors import MisuseError
from gothreads.text import cut
from gothreads.wasi.simulation import check_seed

#: What is noted when runs begin, with how many there will be, and after each run.
PLANNED, RUN = "seeds:", "+seed"
_SEEDS = re.compile(r"([0-9]{1,10})(?:\.\.([0-9]{1,10}))?")


def parse_seeds(option: str, text: str | None) -> range | None:
    """The seeds that SEED or A..B stands for."""
    if text is None:
        return None
    found = _SEEDS.fullmatch(text)
    if found is None:
        raise MisuseError(f"{option} needs a seed, or seeds as 1..1000, not {cut(text)}")
    first, last = int(found[1]), int(found[2] or found[1])
    for seed in (first, last):
        check_seed(option, seed)
    if first > last:
        raise MisuseError(f"{option} {text}: the first seed must not be greater than the last")
    return range(first, last + 1)


def search(seeds: range, run: Callable[[int, BinaryIO], int], again: str, notes: str) -> int:
    """Run a program for each seed, until a run fails; returns the last exit code, and shows that run's output.

    run: runs it, with its output written to a file object. again: the command for a single run, with {} for the seed.
    notes: a file to which it is appended how many runs there will be, and a word for each.
    """
    with open(notes, "a", buffering=1) as file:
        file.write(f"{PLANNED}{len(seeds)}\n")
        for seed in seeds:
            output, code = io.BytesIO(), None
            try:
                code = run(seed, output)
            finally:
                if code != 0 or seed == seeds[-1]:
                    sys.stdout.buffer.write(output.getvalue())
                    sys.stdout.buffer.flush()
                file.write(f"{RUN}\n")
                if code != 0:
                    file.write(f"{PLANNED}{seed - seeds[-1]}\n")  # there will be so many fewer
                    how = "was not over" if isinstance(sys.exception(), KeyboardInterrupt) else "failed"
                    _say(f"the run with seed {seed} {how}. To repeat it: {again.replace('{}', str(seed))}")
            if code != 0:
                return code
        _say(f"no run has failed, with {len(seeds):,} seeds")
        return 0


def _say(text: str) -> None:
    print(f"gothreads: {text}", file=sys.stderr, flush=True)
