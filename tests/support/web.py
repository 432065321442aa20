"""Requests to the ASGI application, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from gothreads.serve.served import Served
from gothreads.serve.web import web_app

Talk = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


def talk(app: Served, conversation: Talk, **options: Any) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web_app(app, **options)),
                                     base_url="http://localhost") as client:
            await conversation(client)
    asyncio.run(run())


def ask(app: Served, method: str, path: str, **options: Any) -> httpx.Response:
    replies: list[httpx.Response] = []

    async def once(client: httpx.AsyncClient) -> None:
        replies.append(await client.request(method, path, **options))
    talk(app, once)
    return replies[0]


def call(app: Served, export: str, *args: Any) -> httpx.Response:
    return ask(app, "POST", f"/api/call/{export}", json={"args": args})
