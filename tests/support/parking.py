"""A handler that replies when the test says so."""

from __future__ import annotations

from concurrent.futures import Future


class Parking:
    """A handler that replies when the test says so."""

    def __init__(self) -> None:
        self.parked: list[Future[bytes]] = []

    def __call__(self, _payload: bytes) -> Future[bytes]:
        self.parked.append(Future())
        return self.parked[-1]
