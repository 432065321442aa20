"""Profiles of an app over HTTP, under the paths of Go's net/http/pprof, so that its tools find them.

    GET /debug/pprof/                the kinds, as text
    GET /debug/pprof/profile         of the CPU; ?seconds=30 by default, as Go has it
    GET /debug/pprof/trace           for `go tool trace`; ?seconds=1 by default
    GET /debug/pprof/{kind}          heap, goroutine, block, mutex; heap?seconds=… what was allocated in that time
                                     goroutine?debug=1: the stacks, as text

?format=svg: a flame graph. ?rate=…: as for App.profile. ?app=NAME: where there are several apps.

Errors are plain text, which `go tool pprof` shows. A profile takes a thread of its own for its time, and one of a kind
is taken at a time. It ends when the client leaves, and with the app: Go does not answer any more. Those of goroutines
take no time, and wait for each other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gothreads.errors import GothreadsError, MisuseError, NotCallable
from gothreads.runtime.goroutine_profile import goroutine_profile
from gothreads.runtime.profiler import KINDS, MOST_SECONDS, check
from gothreads.serve.disconnect import left_first
from gothreads.serve.error_responses import message
from gothreads.serve.served import Served
from gothreads.text import cut, whole_number

T = TypeVar("T")

#: Go's names of the kinds that have another one here, and for how long they are taken by default, in seconds.
_GO_NAMES = {"profile": "cpu", "allocs": "heap"}
_GO_SECONDS = {"cpu": 30.0}
#: How long Go may take to list its goroutines, in seconds; and how much of the list is shown, in characters.
STACKS_SECONDS, _MOST_STACKS = 5.0, 1 << 20
#: What a flame graph may do in a browser: run its own script, and nothing else.
_SVG_POLICY = ("sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
               "form-action 'none'")
#: `go tool pprof` shows the text of an error only with this header.
_FOR_GO = {"X-Go-Pprof": "1", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


async def answer(app: Served, request: Request, stops: asyncio.Lock) -> Response:
    """The answer to a request whose rights are checked and whose body is read.

    stops: held while goroutines are listed: one at a time, since Go stops for it.
    """
    name = request.path_params["kind"]
    if not name:
        return PlainTextResponse(_index(), headers=_FOR_GO)
    query = request.query_params
    kind = _GO_NAMES.get(name, name)
    try:
        rate = _rate(query["rate"]) if "rate" in query else None
        seconds, _ = check(kind, _seconds(query["seconds"]) if "seconds" in query else _GO_SECONDS.get(kind), rate)
    except MisuseError as error:
        return _refused(404 if kind not in KINDS else 400, message(error))
    stop = threading.Event()

    def take() -> Response:
        if kind == "goroutine" and query.get("debug", "0") != "0":
            return PlainTextResponse(stacks(app), headers=_FOR_GO)
        # An app that does not answer holds the others up for a moment only.
        profile = (goroutine_profile(app.goroutines(STACKS_SECONDS), app.loaded.name) if kind == "goroutine" else
                   app.profile(kind, seconds=seconds, rate=rate, stop=stop))
        if query.get("format") == "svg" and kind != "trace":
            return Response(profile.flame_graph(), media_type="image/svg+xml",
                            headers=_FOR_GO | {"Content-Security-Policy": _SVG_POLICY})
        return Response(profile.data, media_type="application/octet-stream",
                        headers=_FOR_GO | {"Content-Disposition": f'attachment; filename="{name}{profile.suffix}"'})
    try:
        if kind == "goroutine":
            async with stops:
                return await asyncio.wrap_future(_on_a_thread(take))
        taking = asyncio.wrap_future(_on_a_thread(take))
        if await left_first(request.receive, taking):
            return Response(status_code=499)
        return await taking
    except TimeoutError as error:
        return _refused(504, str(error) or f"Go did not answer within {STACKS_SECONDS:g} s")
    except GothreadsError as error:
        return _refused(_status(error), message(error))
    finally:
        stop.set()


def stacks(app: Served) -> str:
    """The goroutines with their stacks, for people: only so many. Raises as App.goroutines."""
    found = str(app.goroutines(STACKS_SECONDS))
    more = len(found) - _MOST_STACKS
    return found[:_MOST_STACKS] + (f"\n\n… and {more:,} characters more" if more > 0 else "")


def _refused(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, _FOR_GO)


def _status(error: GothreadsError) -> int:
    match error:
        case NotCallable():
            return 501
        case MisuseError():  # another one is being taken; or it needs seconds
            return 409
        case _:
            return 503


def _rate(text: str) -> int:
    if (number := whole_number(text, 1 << 50)) is None:
        raise MisuseError(f"rate must be a whole number, not {cut(text)}")
    return number


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MisuseError(f"seconds must be a number of at most {MOST_SECONDS:,.0f}, not {cut(text)}") from None


def _on_a_thread(work: Callable[[], T]) -> Future[T]:
    """Run on a thread of its own: those of the event loop are few, and this may take an hour."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
    threading.Thread(target=run, name="gothreads-profile", daemon=True).start()
    return future


def _index() -> str:
    return ("Profiles of this app, for go tool pprof http://…/debug/pprof/profile?seconds=5\n\n"
            "  profile     CPU; ?seconds=30\n"
            "  heap        what is used, and was allocated; ?seconds=… in that time\n"
            "  goroutine   what goroutines do; ?debug=1: their stacks, as text\n"
            "  block       where goroutines wait; ?seconds=10\n"
            "  mutex       which code makes others wait; ?seconds=10\n"
            "  trace       for go tool trace; ?seconds=1\n\n"
            "?format=svg: a flame graph\n")
