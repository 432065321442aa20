"""Files of API keys."""

from __future__ import annotations

from pathlib import Path

from tests.support.command_line import command


class Keys:
    """A file of keys, made as users make it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def new(self, name: str, *rights: str) -> dict[str, str]:
        """The headers of a request with a new key."""
        options = [text for right in rights for text in ("--right", right)]
        code, key, said = command("keys", "new", name, "--file", self.path, *options)
        assert (code, said) == (0, f"gothreads: {self.path} has its hash. The key itself is shown only now:\n")
        return bearer(key.strip())


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}
