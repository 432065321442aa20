"""The version of gothreads."""

__version__ = "0.1.0"
