"""The installation of gothreads under test."""

from __future__ import annotations





