"""Where an app is in its life."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where an app is in its life."""

    STARTING = "starting"  # packages are being initialised; calls wait
    RUNNING = "running"    # calls are taken
    DRAINING = "draining"  # close(drain=...): the last calls finish, no more are taken
    ENDING = "ending"      # threads are leaving; calls get the cause
    EXITED = "exited"      # main returned, or os.Exit, or a panic: `exit` is the code
    FAILED = "failed"      # a trap, or a host function that raised
    CLOSED = "closed"      # close()
    RESTARTING = "restarting"  # of what is supervised: there will be a fresh instance; calls wait for it, or fail
