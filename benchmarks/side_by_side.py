"""Whole programs side by side: the same command under several designs, each once in every round."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.samples import relative
from gothreads.tools.compare.rounds import interleaved


def timed(command: Sequence[str], written: Path | None = None) -> tuple[float, str]:
    """Seconds, and a digest of the whole outcome: exit code, output, and the file that it wrote."""
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


def side_by_side(commands: Mapping[str, Sequence[str]], rounds: int,
                 written: Path | None = None) -> dict[str, dict[str, float]]:
    """Median seconds of each, and the median of the rounds' ratios to the first. SystemExit when their outcomes differ.
    """
    runs = interleaved({name: functools.partial(timed, command, written) for name, command in commands.items()}, rounds)
    if len({digest for samples in runs.values() for _, digest in samples}) != 1:
        raise SystemExit("the outputs differ")
    seconds = {name: [taken for taken, _ in samples] for name, samples in runs.items()}
    return relative(seconds, "seconds", next(iter(seconds)))


def print_table(figures: Mapping[str, Mapping[str, float]]) -> None:
    for name, row in figures.items():
        print(f"{name:12} {row['seconds']:7.1f} s   {row['ratio']:.2f} of {next(iter(figures))}")
