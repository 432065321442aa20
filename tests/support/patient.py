"""Opens the module `patient`, whose calls wait until they are cancelled."""

from __future__ import annotations

import io
from typing import Any

import gothreads
from tests.support.modules import opened


def patient(model: str = "threaded", **options: Any) -> gothreads.App:
    def call_again(n: int, context: gothreads.Context) -> int:
        return int(context.app.request("echo", str(n)))
    return opened("patient", model, host={"env": {"call_again": call_again}}, **({"stderr": io.BytesIO()} | options))


def counts(app: gothreads.App) -> tuple[int, int, int]:
    """The module's numbers of waiting, cancelled and finished calls."""
    waiting, cancelled, done = map(int, app.request("counts").split())
    return waiting, cancelled, done
