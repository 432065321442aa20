"""Passes over a linked module, one per file."""
