"""Waiting and wake-ups between threads."""
