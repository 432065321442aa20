"""Execution models, one per file."""
