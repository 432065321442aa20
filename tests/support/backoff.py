"""Backoffs for tests: pauses between restarts."""

from __future__ import annotations

import gothreads

SOON = gothreads.Backoff(first=0.01, most=0.05)


NEVER = gothreads.Backoff(first=3600, most=3600)
