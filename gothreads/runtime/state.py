"""The states of an app."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The states of an app, in the order of its life."""

    STARTING = "starting"  # packages are being initialised; calls wait
    RUNNING = "running"    # calls are accepted
    DRAINING = "draining"  # close(drain=...): calls in flight finish, no new ones are accepted
    ENDING = "ending"      # threads are leaving; calls get the cause
    EXITED = "exited"      # main returned, or os.Exit, or a panic: `exit` is the code
    FAILED = "failed"      # a trap, or a host function that raised
    CLOSED = "closed"      # close()
    RESTARTING = "restarting"  # supervised apps only: a fresh instance follows; calls wait for it, or fail
