"""Whole programs beside each other: the same command, as several designs run it, one after the other in each round."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.command import ratio


def timed(command: Sequence[str], written: Path | None = None) -> tuple[float, str]:
    """Seconds, and a digest of all that came of it: its exit code, what it printed, and the file that it wrote."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        if written is not None:
            written.unlink(missing_ok=True)
        begin = time.perf_counter()
        code = subprocess.run(command, stdout=out, stderr=errors).returncode
        seconds = time.perf_counter() - begin
        digest = hashlib.sha256(str(code).encode())
        for stream in (out, errors):
            stream.seek(0)
            digest.update(stream.read())
    if written is not None:
        digest.update(written.read_bytes())
    return seconds, digest.hexdigest()


def side_by_side(commands: Mapping[str, Sequence[str]], rounds: int, written: Path | None = None) -> dict[str, dict[str, float]]:
    """Median seconds of each, and the medians of the rounds' ratios to the first. SystemExit when their outputs differ."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    digests = set()
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, digest = timed(command, written)
            taken[name].append(seconds)
            digests.add(digest)
    if len(digests) != 1:
        raise SystemExit("the outputs differ")
    first = next(iter(taken.values()))
    return {name: {"seconds": statistics.median(seconds), "ratio": ratio(seconds, first)}
            for name, seconds in taken.items()}


def table(found: Mapping[str, Mapping[str, float]]) -> None:
    for name, figures in found.items():
        print(f"{name:12} {figures['seconds']:7.1f} s   {figures['ratio']:.2f} of {next(iter(found))}")
