"""What a traceback shows of gothreads."""

from __future__ import annotations

import traceback


def own_frames(error: BaseException) -> list[str]:
    """The functions of gothreads that an error's traceback shows."""
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_globals["__name__"].startswith("gothreads.")]
