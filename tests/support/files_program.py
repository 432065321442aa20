"""Drives the module `files` over a host folder."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads


class GoError(Exception):
    """An error from Go: its text, and the names of the errors that errors.Is finds in it."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(f"{said['Error']} {said['Is']}")
        self.value = said["Value"]


class Go:
    """The module, over a host folder. `root`: the folder to use through os.Root instead of package os."""

    def __init__(self, app: gothreads.App, host: Path, root: str = "") -> None:
        self.app, self.host, self.root = app, host, root

    def _asked(self, op: str, args: tuple[object, ...]) -> str:
        return json.dumps({"Root": self.root, "Op": op, "Args": args})

    @staticmethod
    def _answered(reply: bytes) -> Any:
        said = json.loads(reply)
        if said["Error"]:
            raise GoError(said)
        return said["Value"]

    def __call__(self, op: str, *args: object) -> Any:
        return self._answered(self.app.request("do", self._asked(op, args)))

    def within(self, seconds: float, op: str, *args: object) -> Any:
        return self._answered(self.begin(op, *args).result(seconds))

    def begin(self, op: str, *args: object) -> Future[bytes]:
        return self.app.submit_request("do", self._asked(op, args))

    def refuses(self, *calls: tuple[object, ...]) -> None:
        """Assert that each of these calls fails."""
        for op, *args in calls:
            try:
                said = self(str(op), *args)
            except GoError:
                continue
            raise AssertionError(f"{op} {args} has worked: {said}")

    def fails(self, name: str, op: str, *args: object) -> Any:
        """Assert that a call fails with an error in which errors.Is finds `name`; return the value beside the error."""
        with pytest.raises(GoError, match=rf"\b(?:{name})\b") as caught:
            self(op, *args)
        return caught.value.value
