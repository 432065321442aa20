"""What to build."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gothreads.errors import MisuseError
from gothreads.wasm.metadata import BUILD_MODELS, BUILD_MODES, THREADED
from gothreads.wasm.passes.sharpen import check_model, check_seed


@dataclass(frozen=True)
class Request:
    """What to build. Raises MisuseError for values that are not valid.

    package: a folder, an import path, or a .go file.
    sharpen: a seed (wasm/passes/sharpen.py).
    optimize: give functions fast bodies (build/optimizer.py).
    simulate: let the host's seed decide what Go's one thread runs (build/simulation_edits.py).
    flags: passed to go build.
    """

    package: str
    model: str = THREADED
    buildmode: str | None = None
    go: str | None = None
    strip: bool = False
    preemption: bool = True
    sharpen: int | None = None
    flags: tuple[str, ...] = ()
    optimize: bool = False
    simulate: bool = False

    def __post_init__(self) -> None:
        if self.model not in BUILD_MODELS:
            raise MisuseError(f"there is no model {self.model!r} to build for; there are: {', '.join(BUILD_MODELS)}")
        if self.buildmode not in (None, *BUILD_MODES):
            raise MisuseError(f"there is no build mode {self.buildmode!r}; there are: {', '.join(BUILD_MODES)}")
        if self.sharpen is not None:
            check_seed(self.sharpen)
            check_model(self.model)
        if self.simulate and self.model == THREADED:
            raise MisuseError("only stock Go, on one thread, can be simulated (model single)")
        for flag in self.flags:
            if re.match(r"--?(o|overlay|buildmode)\b", flag):
                raise MisuseError(f"gothreads sets {flag.split('=')[0]} itself; use its own options")

    @property
    def mode(self) -> str:
        """The build mode. exe runs main; c-shared does not. Stock Go calls exports only in the latter."""
        return self.buildmode or ("exe" if self.model == THREADED else "c-shared")
