"""CORS: pages of other sites that may use the server, by Starlette's CORSMiddleware.

It answers browsers that ask beforehand, and marks responses as readable. It stands behind guard.py, which refuses wrong
host names, and requests of other pages. Cookies and the like are never allowed: nothing here reads any. (Browsers send
certificates of clients all the same, without letting the page read the answer.)
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_SECONDS = 600


def with_origins(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """The application, which pages of these origins may use."""
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
                          allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
                          expose_headers=("X-Request-ID", "Retry-After"), max_age=_SECONDS)
