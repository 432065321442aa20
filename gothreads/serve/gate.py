"""What stands before the routes of an app: rights, and the limit on one client's calls."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from gothreads.runtime.keywords import complete, definition
from gothreads.serve.admission import Admission
from gothreads.serve.auth import AnyOf, Authority, client_of
from gothreads.serve.endpoint import Endpoint, Within
from gothreads.serve.options import ServeOptions


def closed(authority: Authority | AnyOf, endpoint: Endpoint, right: str | None = None) -> Endpoint:
    """An endpoint for those who have that right, or any."""
    async def closed(request: Request) -> Response:
        if right is None:
            authority.known(request.scope)
        else:
            authority.allowed(request.scope, right)
        return await endpoint(request)
    return closed


class Gate:
    """Wraps endpoints of an app, so that they are reached only by those who may. All its instances have the same."""

    def __init__(self, authority: Authority, admission: Admission) -> None:
        self.authority, self.admission = authority, admission

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Gate:
        """The gate that options of a served app ask for. MisuseError: they are wrong, or a file of keys is."""
        chosen = complete("serve", ServeOptions, {name: options[name] for name in definition(ServeOptions)
                                                  if name in options})
        return cls(Authority.of(chosen), Admission(chosen["max_calls"], chosen["max_waiting"],
                                                   chosen["max_client_calls"]))

    def call(self, kind: str, parameter: str, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose requests count as calls of the client, until they are answered.

        kind: call, request or signal. parameter: of the path, with the name.
        """
        async def call(request: Request) -> Response:
            identity = self.authority.allowed(request.scope, f"{kind}/{request.path_params[parameter]}")
            with ExitStack() as counted:
                counted.enter_context(self.admission.of_client(client_of(request.scope, identity)))
                response = await endpoint(request)
                until_sent = counted.pop_all()
            return Within(response, until_sent)
        return call

    def closed(self, endpoint: Endpoint, right: str | None = None) -> Endpoint:
        """An endpoint for those who have that right, or any."""
        return closed(self.authority, endpoint, right)

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self.authority.is_open

    @property
    def schemes(self) -> dict[str, Any]:
        """The ways to authenticate, as OpenAPI describes them."""
        return self.authority.schemes

    def knows(self, scope: Scope) -> bool:
        """Whether to tell the client more than that there is a server. HTTPException: its credentials are wrong."""
        return self.is_open or self.authority.identity(scope) is not None
