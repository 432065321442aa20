"""JSON Web Tokens (JWT) that somebody else signs, such as an identity provider: PyJWT, with the extra `jwt`.

The file has what verifies signatures: a public key (PEM), or a set of keys (JWKS). It is read once. Which algorithms
are accepted is decided by the key and never by the token: so a token that is not signed, or is signed with the public
key as if that were a secret, is refused. A token must expire, and be of this issuer and for this audience.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gothreads.errors import MisuseError
from gothreads.files import reason, version_of
from gothreads.requirements import install
from gothreads.serve.identity import Identity, is_right
from gothreads.text import cut, shown

if TYPE_CHECKING:
    from jwt import PyJWK

#: How far clocks may be apart, in seconds.
_LEEWAY = 10
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}


class BadToken(Exception):
    """A token that is not accepted, and why."""


@dataclass(frozen=True)
class _Key:
    """A key, with the algorithms for which it is."""

    key: Any
    algorithms: Sequence[str]


class Tokens:
    """Accepts the tokens of an issuer. rights: the claim that has them, as a list or as words."""

    def __init__(self, path: str | os.PathLike[str], issuer: str, audience: str, rights: str) -> None:
        self._issuer, self._audience, self._rights = issuer, audience, rights
        self._keys = _read_once(path)

    def identity(self, token: str) -> Identity:
        """Whose token it is. BadToken."""
        import jwt

        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(token, key.key, algorithms=list(key.algorithms), issuer=self._issuer,
                                audience=self._audience, leeway=_LEEWAY,
                                options={"require": ["exp", "iss", "aud", "sub"]})
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise BadToken(shown(str(error)[:200])) from None  # it may quote the token
        rights = claims.get(self._rights, ())
        if isinstance(rights, str):
            rights = rights.split()
        if not isinstance(rights, list | tuple) or not all(isinstance(each, str) for each in rights):
            raise BadToken(f"the claim {self._rights} has no rights, as a list or as words")
        # Scopes that are no rights are for others.
        return Identity("token", str(claims["sub"]), tuple(right for right in rights if is_right(right)))

    def _key(self, number: object) -> _Key:
        if (only := self._keys.get(None)) is not None:
            return only
        found = self._keys.get(number) if isinstance(number, str) else None
        if found is None:
            raise BadToken(f"there is no key {cut(number)} (kid)")
        return found


def check_tokens(name: str, value: object) -> None:
    """A check for the option with the file."""
    if not isinstance(value, str | os.PathLike):
        raise MisuseError(f"{name} must be the path of a file, not {cut(value)}")
    _read_once(value)


def _read_once(path: str | os.PathLike[str]) -> Mapping[str | None, _Key]:
    """The keys, as _read has them. It is called when an option is checked, and when it is used, which is soon after."""
    version = None
    with contextlib.suppress(OSError):
        version = version_of(path)
    return _read(Path(path), version)


@functools.lru_cache(maxsize=32)
def _read(path: Path, _version: tuple[int, ...] | None) -> Mapping[str | None, _Key]:
    """The keys in that version of the file, by their ids. A single one has the id None, and is for any."""
    if importlib.util.find_spec("jwt") is None or importlib.util.find_spec("cryptography") is None:
        raise MisuseError(f"tokens need PyJWT and cryptography: {install('jwt')}")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MisuseError(f"cannot read the keys for tokens in {path}: {reason(error)}") from None
    except ValueError:
        text = ""
    try:
        return _of_set(json.loads(text)) if text.lstrip().startswith("{") else {None: _of_pem(text)}
    except (ValueError, TypeError, AttributeError) as error:
        raise MisuseError(f"{path} has neither a public key (PEM) nor a set of keys (JWKS): {error}") from None


def _of_set(found: Mapping[str, Any]) -> Mapping[str | None, _Key]:
    import jwt

    try:
        keys = [key for key in jwt.PyJWKSet.from_dict(dict(found)).keys if key.public_key_use in (None, "sig")]
    except jwt.PyJWTError as error:
        raise ValueError(str(error)) from None
    if len(keys) == 1:
        return {None: _of_jwk(keys[0])}
    if nameless := [key for key in keys if key.key_id is None]:
        raise ValueError(f"{len(nameless)} of {len(keys)} keys have no id (kid)")
    return {key.key_id: _of_jwk(key) for key in keys}


def _of_jwk(key: PyJWK) -> _Key:
    return _Key(key.key, [key.algorithm_name])


def _of_pem(text: str) -> _Key:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(text.encode())
    match key:
        case rsa.RSAPublicKey():
            return _Key(key, _RSA)
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return _Key(key, [_CURVES[key.curve.name]])
        case ed25519.Ed25519PublicKey():
            return _Key(key, ["EdDSA"])
    raise ValueError("the key is neither RSA, nor of a known curve, nor Ed25519")
