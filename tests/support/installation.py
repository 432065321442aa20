"""Which gothreads is tested."""

from __future__ import annotations





