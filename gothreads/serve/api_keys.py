"""API keys: how they are made, and the file that has their hashes.

    # name    hash, or the word certificate    rights
    ci        sha256:1f0c…                     call/* request/upper
    backup    certificate                      call/snapshot metrics

Why SHA-256 and not scrypt: a key has 256 random bits, so nobody finds one by trying, however fast that is. A slow hash
helps where people choose passwords; here it would only let clients use up the processor.

A request's key is hashed, and its hash is compared with that of each line, in constant time, whether or not one has
been found: so how long it takes depends on the number of lines only.

A line with the word certificate is for the client whose TLS certificate has that name.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gothreads.errors import MisuseError
from gothreads.files import reason
from gothreads.serve.identity import Identity, check_rights
from gothreads.text import cut

log = logging.getLogger("gothreads.serve")

#: What a key begins with: so people, and programs that look for secrets, see what it is.
PREFIX = "gtk_"
_CERTIFICATE = "certificate"
_NAME = re.compile(r"[\w.@-]{1,100}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


def new_key() -> str:
    """A key that nobody has."""
    return PREFIX + secrets.token_urlsafe(32)


def line_of(name: str, key: str, rights: Iterable[str]) -> str:
    """The line of the file for a key. MisuseError: a name or a right is not one."""
    checked = check_rights("", rights)
    if not _NAME.fullmatch(name):
        raise MisuseError(f"{cut(name)} cannot name a key; letters, digits and _.@- can")
    return f"{name} sha256:{_digest(key).hex()} {' '.join(checked)}"


@dataclass(frozen=True)
class _Keys:
    """What the file has."""

    hashed: Sequence[tuple[bytes, Identity]] = ()
    certificates: dict[str, Identity] = field(default_factory=dict)


class ApiKeys:
    """The keys of a file. It is read again when it has changed: a line that was removed is refused at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._version = self._version_now()
        self._keys = _read(self._path)

    def of_key(self, key: str) -> Identity | None:
        """Whose key it is."""
        digest, found = _digest(key), None
        for each, identity in self._current().hashed:
            if hmac.compare_digest(each, digest):
                found = identity
        return found

    def of_certificate(self, name: str) -> Identity | None:
        return self._current().certificates.get(name)

    def _current(self) -> _Keys:
        if (version := self._version_now()) != self._version:
            self._version = version
            try:
                self._keys = _read(self._path)
            except MisuseError as error:
                log.error("%s. The keys that were there before are still valid", error)
        return self._keys

    def _version_now(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def check_api_keys(name: str, value: object) -> None:
    """A check for the option with the file."""
    if not isinstance(value, str | os.PathLike):
        raise MisuseError(f"{name} must be the path of a file, not {cut(value)}")
    _read(Path(value))


def _read(path: Path) -> _Keys:
    try:
        text = path.read_text()
    except OSError as error:
        raise MisuseError(f"cannot read the API keys in {path}: {reason(error)}. To make one: gothreads keys new NAME "
                          f"--file {path}") from None
    except ValueError:
        raise MisuseError(f"the API keys in {path} are not text in UTF-8") from None
    hashed: list[tuple[bytes, Identity]] = []
    certificates: dict[str, Identity] = {}
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}, line {number}: "
        match line.partition("#")[0].split():
            case []:
                continue
            case [name, kind, *rights] if _NAME.fullmatch(name):
                identity = Identity(name, check_rights(where, rights))
                if kind == _CERTIFICATE:
                    certificates[name] = identity
                elif (found := _HASH.fullmatch(kind)) is not None:
                    hashed.append((bytes.fromhex(found[1]), identity))
                else:
                    raise MisuseError(f"{where}{cut(kind)} is not a hash, sha256: and 64 hexadecimal digits, as "
                                      "gothreads keys new writes it; nor the word certificate")
            case _:
                raise MisuseError(f"{where}expected a name, a hash and rights, as gothreads keys new writes them")
    return _Keys(hashed, certificates)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
