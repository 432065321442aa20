"""Options of `gothreads serve`. Does not need the packages of the extra `serve`."""

from __future__ import annotations

#: Default for how long requests in flight may take after SIGTERM or Ctrl-C, in seconds.
DRAIN_SECONDS = 10.0
