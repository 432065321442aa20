"""Typed functions: Go functions that //gothreads:export exports, with classes for their types."""
