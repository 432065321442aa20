"""Opens the module `patient`, whose calls wait until they are cancelled."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from typing import Any

import pytest

import gothreads
from gothreads.runtime.cancellation import Cancellation
from tests.support.modules import opened


def patient(model: str = "threaded", **options: Any) -> gothreads.App:
    def call_again(n: int, context: gothreads.Context) -> int:
        return int(context.app.request("echo", str(n)))
    return opened("patient", model, host={"env": {"call_again": call_again}}, **({"stderr": io.BytesIO()} | options))


def counts(app: gothreads.App) -> tuple[int, int, int]:
    """The module's numbers of waiting, cancelled and finished calls."""
    waiting, cancelled, done = map(int, app.request("counts").split())
    return waiting, cancelled, done


def inside() -> int:
    """How many of this process's calls are in a module: one that is given up before never begins.

    A call is in use (`statistics`) a little earlier, from when it has its caller or its instance.
    """
    return sum(type(made) is Cancellation and made.is_inside for made in gc.get_objects())


def given_up_inside(call: Callable[[], object]) -> str:
    """What is said of a call whose time is over when it is in the module: on a loaded machine, it may be before that."""
    while True:
        with pytest.raises(gothreads.CallTimeout) as caught:
            call()
        if "has not begun within" not in str(caught.value):
            return str(caught.value)
