"""What `gothreads serve` is told. Needs none of the packages that serving needs."""

from __future__ import annotations

#: How long requests in flight may take after SIGTERM or Ctrl-C, in seconds, unless told otherwise.
DRAIN_SECONDS = 10.0
