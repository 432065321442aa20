"""A handler whose replies the test controls."""

from __future__ import annotations

from concurrent.futures import Future


class Parking:
    """Parks each call until the test sets the result of its future."""

    def __init__(self) -> None:
        self.parked: list[Future[bytes]] = []

    def __call__(self, _payload: bytes) -> Future[bytes]:
        self.parked.append(Future())
        return self.parked[-1]
