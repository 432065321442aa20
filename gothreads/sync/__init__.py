"""Waiting, and waking who waits."""
