"""The program as a native C library, called through ctypes: the alternative without a sandbox.

A process has at most one, for good: Go's runtime cannot be unloaded, and closing only forgets it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from gothreads.errors import GothreadsError

_HOST = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class NativePeer:
    """See gothreads.tools.compare.peers.Peer."""

    #: The library calls them for as long as the process lives, whatever becomes of the peer.
    _callbacks: ClassVar[list[Any]] = []

    def __init__(self, path: Path, exports: Mapping[str, int], host: Callable[[int], int]) -> None:
        """exports: the number of arguments of each. GOMAXPROCS must be in the environment that the process started
        with: Go reads it there.
        """
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise GothreadsError(f"cannot load the native library: {error}") from None
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, count in exports.items():
            function = self._library[f"native_{name}"]
            function.argtypes, function.restype = [ctypes.c_int64] * count, ctypes.c_int64
            self._functions[name] = function
        self._library.native_request.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int64)]
        self._library.native_request.restype = ctypes.c_void_p
        self._library.native_free.argtypes = [ctypes.c_void_p]
        callback = _HOST(host)
        self._callbacks.append(callback)
        self._library.native_host(callback)

    def function(self, export: str) -> Callable[..., Any]:
        return self._functions[export]

    def request(self, handler: str, payload: bytes) -> bytes:
        size = ctypes.c_int64(len(payload))
        answer = self._library.native_request(handler.encode(), payload, ctypes.byref(size))
        if answer is None:
            raise GothreadsError(f"the native handler {handler} failed")
        try:
            return ctypes.string_at(answer, size.value)
        finally:
            self._library.native_free(answer)

    def another(self) -> None:
        return None

    def close(self) -> None:
        pass
