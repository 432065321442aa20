"""Authentication and rights: who has sent a request (API keys, tokens, TLS certificates), and whether they may.

Without any of the options there is no authentication, and everybody may do everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from gothreads.serve.admission import address_of
from gothreads.serve.api_keys import PREFIX, ApiKeys
from gothreads.serve.identity import IDENTITY, Identity
from gothreads.serve.options import check_together
from gothreads.serve.tls import CERTIFICATE
from gothreads.serve.tokens import BadToken, Tokens
from gothreads.text import cut, shown


class Authority:
    """Decides about requests. On the server's event loop only."""

    def __init__(self, keys: ApiKeys | None = None, tokens: Tokens | None = None) -> None:
        self._keys, self._tokens = keys, tokens

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Authority:
        """The authority that options of a served app ask for. MisuseError: something is missing."""
        check_together(options)
        keys, tokens = options["api_keys"], options["jwt_keys"]
        return cls(None if keys is None else ApiKeys(keys),
                   None if tokens is None else Tokens(tokens, options["jwt_issuer"], options["jwt_audience"],
                                                      options["jwt_rights"]))

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self._keys is None and self._tokens is None

    @property
    def schemes(self) -> dict[str, Any]:
        """What OpenAPI calls security schemes."""
        kinds = {"key": "An API key." if self._keys else "", "token": "A JSON Web Token." if self._tokens else ""}
        more = {"token": {"bearerFormat": "JWT"}}
        return {name: {"type": "http", "scheme": "bearer", "description": text, **more.get(name, {})}
                for name, text in kinds.items() if text}

    def identity(self, scope: Scope) -> Identity | None:
        """Who has sent the request; None: it has no credentials. HTTPException: they are wrong."""
        found = None if self.is_open else self._identity(scope)
        if found is not None:
            scope[IDENTITY] = found  # for the access log
        return found

    def _identity(self, scope: Scope) -> Identity | None:
        given = Headers(scope=scope).getlist("authorization")
        if not given:
            name = certificate(scope)
            return self._keys.of_certificate(name) if self._keys is not None and name is not None else None
        scheme, _, credential = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not credential.strip():
            raise _unauthorized("expected one header Authorization: Bearer KEY")
        return self._of_credential(credential.strip())

    def _of_credential(self, credential: str) -> Identity:
        if self._keys is not None and (self._tokens is None or credential.startswith(PREFIX)):
            if (found := self._keys.of_key(credential)) is None:
                raise _unauthorized("the API key is unknown")
            return found
        assert self._tokens is not None
        try:
            return self._tokens.identity(credential)
        except BadToken as error:
            raise _unauthorized(f"the token is not accepted: {error}") from None

    def known(self, scope: Scope) -> Identity | None:
        """Who has sent the request; None if everybody may do everything. HTTPException: that is not known."""
        identity = self.identity(scope)
        if identity is None and not self.is_open:
            name = certificate(scope)
            known = "" if name is None else f", as no line of the API keys is for the certificate {cut(name)}"
            raise _unauthorized(f"an API key or token is needed{known}: Authorization: Bearer KEY")
        return identity

    def allowed(self, scope: Scope, right: str) -> Identity | None:
        """The same. HTTPException, too, if they do not have that right."""
        identity = self.known(scope)
        if identity is not None and not identity.may(right):
            raise HTTPException(403, f"{shown(identity.name)} has no right to {cut(right)}")
        return identity


def permits(check: Callable[[], object]) -> bool:
    """Whether a check of a client's rights raises no HTTPException."""
    try:
        check()
        return True
    except HTTPException:
        return False


class AnyOf:
    """The authorities of a server's apps, for what belongs to the server: who has a right in one of the apps has it.

    Where an app needs no credentials, that is for its own calls: if another app does, so does the server.
    """

    def __init__(self, authorities: Iterable[Authority]) -> None:
        self._asked = [each for each in authorities if not each.is_open]

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return not self._asked

    def known(self, scope: Scope) -> Identity | None:
        """As Authority.known, of the first that knows who has sent the request."""
        return self._first(lambda authority: authority.known(scope))

    def allowed(self, scope: Scope, right: str) -> Identity | None:
        """As Authority.allowed, of the first that gives the right."""
        return self._first(lambda authority: authority.allowed(scope, right))

    def _first(self, ask: Callable[[Authority], Identity | None]) -> Identity | None:
        refusals: list[HTTPException] = []
        for authority in self._asked:
            try:
                return ask(authority)
            except HTTPException as refusal:
                refusals.append(refusal)
        if refusals:
            raise max(refusals, key=lambda refusal: refusal.status_code)  # 403: one of them knows the client
        return None


def client_of(scope: Scope, identity: Identity | None) -> str:
    """Whom to count a request for: the key, the token's subject, the certificate, or else the address."""
    if identity is not None:
        return str(identity)
    name = certificate(scope)
    return f"address {address_of(scope.get('client'))}" if name is None else f"certificate {name}"


def certificate(scope: Scope) -> str | None:
    """The name in the client's TLS certificate."""
    found: str | None = (scope.get("state") or {}).get(CERTIFICATE)
    return found


def _unauthorized(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": "Bearer"})
