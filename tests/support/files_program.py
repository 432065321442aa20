"""The module `files`, over a folder of the host's."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads


class GoError(Exception):
    """What Go said, and the names that errors.Is finds in it."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(f"{said['Error']} {said['Is']}")
        self.value = said["Value"]


class Go:
    """The module, over a folder of the host's; `root`: through os.Root instead of package os."""

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
        """Each of these is an error."""
        for op, *args in calls:
            try:
                said = self(str(op), *args)
            except GoError:
                continue
            raise AssertionError(f"{op} {args} has worked: {said}")

    def fails(self, name: str, op: str, *args: object) -> Any:
        """It is an error in which errors.Is finds that name; what came with the error."""
        with pytest.raises(GoError, match=rf"\b(?:{name})\b") as caught:
            self(op, *args)
        return caught.value.value
