"""Go, compiled to WebAssembly, on many threads."""

from gothreads.opening import open

__all__ = ["open"]
