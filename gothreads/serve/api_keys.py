"""API keys: how they are made, and the file that has their hashes.

    # name    hash, or the word certificate    rights
    ci        sha256:1f0c…                     call/* request/upper
    backup    certificate                      call/snapshot metrics

Why SHA-256 and not scrypt: a key has 256 random bits, so nobody finds one by trying, however fast that is. A slow hash
helps where people choose passwords; here it would only let clients use up the processor.

A request's key is hashed, and its hash is compared with that of each line, in constant time, whether or not one has
been found: so how long it takes depends on the number of lines only.

A line with the word certificate is for the client whose TLS certificate has that name.

The server reads the file again when it has changed. A line that is wrong then gives nobody a right, and neither does a
file that is gone; one that cannot be read just now is tried again with the next request.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gothreads.errors import MisuseError
from gothreads.files import reason, version_of
from gothreads.serve.identity import Identity, check_rights
from gothreads.text import cut

log = logging.getLogger("gothreads.serve")

#: What a key begins with: so people, and programs that look for secrets, see what it is.
PREFIX = "gtk_"
_CERTIFICATE = "certificate"
_NAME, _CERTIFICATE_NAME = re.compile(r"[\w.@-]{1,100}"), re.compile(r"[^\s#]{1,200}")
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
    """The keys of a file, which is read again when it has changed. MisuseError: at the start, it is wrong."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path, self._told = Path(path), ""
        self._version: tuple[int, ...] | None = None
        with contextlib.suppress(OSError):
            self._version = version_of(self._path)
        self._keys = _checked(self._path, self._version)
        if not self._keys.hashed and not self._keys.certificates:
            self._tell(f"{path} has no keys, so nobody may call anything. To make one: gothreads keys new NAME --file "
                       f"{path}")

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
        try:
            if (version := version_of(self._path)) != self._version:
                self._keys = _read(self._path, lambda error: self._tell(f"{error}. The line gives nobody a right"))
                self._version = version
            else:
                self._told = ""
        except FileNotFoundError:
            self._keys, self._version = _Keys(), None
            self._tell(f"the API keys in {self._path} are gone: nobody has a right")
        except OSError as error:
            self._not_read(f"cannot read the API keys in {self._path}: {reason(error)}")
        except MisuseError as error:
            self._not_read(str(error))
        return self._keys

    def _not_read(self, why: str) -> None:
        self._tell(f"{why}. The keys that were there before are valid until it can be read")

    def _tell(self, text: str) -> None:
        if text != self._told:  # it may be so for each request
            self._told = text
            log.warning("%s", text)


def check_api_keys(name: str, value: object) -> None:
    """A check for the option with the file."""
    if not isinstance(value, str | os.PathLike):
        raise MisuseError(f"{name} must be the path of a file, not {cut(value)}")
    version = None
    with contextlib.suppress(OSError):
        version = version_of(value)
    _checked(Path(value), version)


@functools.lru_cache(maxsize=32)  # when an option is checked, and when it is used, which is soon after
def _checked(path: Path, _version: tuple[int, ...] | None) -> _Keys:
    """The keys of the file in that version. MisuseError: it is wrong."""
    return _read(path, _raise)


def _raise(error: MisuseError) -> None:
    raise error


def _read(path: Path, wrong: Callable[[MisuseError], None]) -> _Keys:
    """The lines of the file. MisuseError: it cannot be read. wrong: is given what is wrong with a line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MisuseError(f"cannot read the API keys in {path}: {reason(error)}. To make one: gothreads keys new NAME "
                          f"--file {path}") from None
    except ValueError:
        raise MisuseError(f"the API keys in {path} are not text in UTF-8") from None
    hashed: dict[bytes, Identity] = {}
    certificates: dict[str, Identity] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (parts := line.partition("#")[0].split()):
            continue
        try:
            _add(parts, f"{path}, line {number}: ", hashed, certificates)
        except MisuseError as error:
            wrong(error)
    return _Keys([*hashed.items()], certificates)


def _add(parts: Sequence[str], where: str, hashed: dict[bytes, Identity], certificates: dict[str, Identity]) -> None:
    """Add what a line says. MisuseError: it is wrong."""
    match parts:
        case [name, kind, *rights] if kind == _CERTIFICATE and _CERTIFICATE_NAME.fullmatch(name):
            identity = Identity("certificate", name, check_rights(where, rights))
            if certificates.setdefault(name, identity) is not identity:
                raise MisuseError(f"{where}there is a line for the certificate {name} already")
        case [name, kind, *rights] if _NAME.fullmatch(name):
            if (found := _HASH.fullmatch(kind)) is None:
                raise MisuseError(f"{where}{cut(kind)} is not a hash, sha256: and 64 hexadecimal digits, as gothreads "
                                  "keys new writes it; nor the word certificate")
            identity = Identity("key", name, check_rights(where, rights))
            if hashed.setdefault(bytes.fromhex(found[1]), identity) is not identity:
                raise MisuseError(f"{where}there is a line for this key already")
        case _:
            raise MisuseError(f"{where}expected a name, a hash and rights, as gothreads keys new writes them")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
