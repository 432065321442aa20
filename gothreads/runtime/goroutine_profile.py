"""The profile of goroutines: how many have each stack, and what they do there. In all models, from the stacks' text."""

from __future__ import annotations

from collections.abc import Iterable

from gothreads.profiles.profile import Profile
from gothreads.profiles.samples import Line, Sample, ValueType
from gothreads.runtime.inspector import Goroutine
from gothreads.wasi.panics import stack_frames

_TYPES = (ValueType("goroutine", "count"),)


def goroutine_profile(goroutines: Iterable[Goroutine], module: str) -> Profile:
    """The goroutines by stack and by what they do or wait for, which is the label "state"."""
    samples = [Sample(tuple(Line(frame.function, frame.file, frame.line) for frame in stack_frames(goroutine.stack)),
                      (1,), (("state", goroutine.state.partition(",")[0]),))
               for goroutine in goroutines]
    return Profile.of("goroutine", _TYPES, samples, module=module)
