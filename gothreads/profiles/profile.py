"""`Profile`: samples of what a Go program does, each with a stack."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gothreads.errors import MisuseError
from gothreads.files import reported, write_atomically
from gothreads.profiles import flame, pprof
from gothreads.profiles.samples import Sample, ValueType, amount

#: What a row of `top` has.
_HEADER = f"{'flat':>12} {'flat%':>6} {'cum':>12} {'cum%':>6}  function"


class Row(NamedTuple):
    """A function in `Profile.functions`. flat: what its own code took. total: with all that it called."""

    function: str
    flat: int
    total: int


@dataclass(frozen=True)
class Profile:
    """A profile of Go code, or a trace of Go's scheduler (kind "trace"). str() is the table of `top`.

    data: what `go tool pprof` opens; of a trace, what `go tool trace` opens.
    seconds: for how long it was taken; 0: of one moment.
    types: what the values of samples are, as name and unit. Tables and flame graphs show the last one.
    samples: of a trace, there are none.
    note: what is to be known about it; "" if nothing is.
    """

    kind: str
    data: bytes = field(repr=False)
    seconds: float = 0.0
    types: tuple[ValueType, ...] = ()
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    note: str = ""

    @classmethod
    def of(cls, kind: str, types: Sequence[ValueType], samples: Iterable[Sample], *, seconds: float = 0.0,
           period: tuple[ValueType, int] | None = None, module: str = "", note: str = "") -> Profile:
        """A profile of these samples. Those with the same stack and labels become one."""
        summed: dict[tuple[Any, ...], list[int]] = {}
        for sample in samples:
            found = summed.setdefault((sample.stack, sample.labels), [0] * len(types))
            for index, value in enumerate(sample.values):
                found[index] += value
        joined = tuple(Sample(stack, tuple(values), labels) for (stack, labels), values in summed.items()
                       if any(values))
        data = pprof.encode(types, joined, seconds=seconds, period=period, module=module, note=note)
        return cls(kind, data, seconds, tuple(types), joined, note)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Read a profile that `save`, or any other Go program, has written. MisuseError: it is none."""
        with reported(f"read {os.fspath(path)}"):
            data = Path(path).read_bytes()
        return cls.decode(data, os.fspath(path))

    @classmethod
    def decode(cls, data: bytes, name: str = "it") -> Profile:
        """The profile in these bytes. MisuseError: there is none; `name` is what they are called."""
        types, samples, seconds, note = pprof.decode(data, name)
        kind = _KINDS.get(types[-1].name, types[-1].name) if types else "cpu"
        return cls(kind, data, seconds, types, samples, note)

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return ".out" if self.kind == "trace" else ".pb.gz"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, for `go tool pprof FILE` or `go tool trace FILE`.

        GothreadsError: the file cannot be written.
        """
        with reported(f"write {os.fspath(path)}"):
            write_atomically(Path(path), self.data)

    def functions(self) -> list[Row]:
        """All functions, the one that took the most itself first. MisuseError: it is a trace."""
        self._check()
        flat: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for sample in self.samples:
            if sample.stack:
                flat[sample.stack[0].function] += sample.values[-1]
            for function in {line.function for line in sample.stack}:  # one that calls itself counts once
                total[function] += sample.values[-1]
        rows = (Row(function, flat[function], all_of_it) for function, all_of_it in total.items())
        return sorted(rows, key=lambda row: (-row.flat, -row.total, row.function))

    def top(self, count: int = 10) -> str:
        """A table of the functions that took the most, as `go tool pprof -top` has it. MisuseError: it is a trace."""
        return "\n".join(self._lines(count))

    def flame_graph(self, title: str = "") -> str:
        """An SVG file of its own: its boxes can be searched and enlarged in a browser. MisuseError: it is a trace."""
        self._check()
        return flame.svg(self.samples, self.types[-1], title or self._headline)

    def __str__(self) -> str:
        return self._headline if self.kind == "trace" else self.top()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For IPython and notebooks."""
        printer.text(str(self))

    @property
    def total(self) -> int:
        """The sum of all samples."""
        return sum(sample.values[-1] for sample in self.samples)

    @property
    def _headline(self) -> str:
        took = f", {self.seconds:,.1f} s" if self.seconds else ""
        if self.kind == "trace":
            return f"trace{took}, {len(self.data):,} bytes"
        shown = "" if self.types[-1].name == self.kind else f" ({self.types[-1].name})"
        return f"{self.kind}{shown}{took}, {amount(self.total, self.types[-1])} in all"

    def _check(self) -> None:
        if self.kind == "trace":
            raise MisuseError("a trace has no samples. Save it, and open it: go tool trace FILE")

    def _lines(self, count: int) -> Iterator[str]:
        rows, total, of = self.functions(), self.total, self.types[-1]
        yield self._headline
        if self.note:
            yield self.note
        yield _HEADER
        for row in rows[:count]:
            yield (f"{amount(row.flat, of):>12} {row.flat / (total or 1):6.1%} {amount(row.total, of):>12} "
                   f"{row.total / (total or 1):6.1%}  {row.function}")
        if len(rows) > count:
            yield f"{'':40}… and {len(rows) - count:,} more"


#: The kinds of profiles that files do not name, by the last of their types.
_KINDS = {"inuse_space": "heap", "delay": "block"}
