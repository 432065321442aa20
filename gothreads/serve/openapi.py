"""The OpenAPI 3.1 document of an app: its exports, typed functions, handlers and events, as Go declares them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from gothreads.bridge.go_types import RANGES
from gothreads.serve.served import NamedRoute, Served
from gothreads.typed.json_schema import FLOAT, JsonSchema, JsonSchemas, described, items, whole
from gothreads.typed.schema import FunctionSchema, Type, declared_by
from gothreads.version import __version__
from gothreads.wasm.signature import Signature

_JSON, _BYTES, _NDJSON, _EVENTS = ("application/json", "application/octet-stream", "application/x-ndjson",
                                   "text/event-stream")
#: By status, why there is no result. The bodies have details.
_ERRORS = {
    400: "The body is malformed.",
    401: "There is no API key or token, or it is not accepted.",
    403: "A page of another site has sent the request, or the key or token has no right to it.",
    404: "There is nothing of that name now.",
    408: "The body arrives too slowly.",
    413: "The body is too large.",
    421: "The server does not have the name that the request is for.",
    422: "An argument is wrong, or the function has returned an error.",
    429: "The client has too many calls in progress.",
    500: "The server has a bug.",
    502: "The module has returned something that is invalid.",
    503: "The module is busy or has ended, or there is no room for the request.",
    504: "The call has taken longer than the server allows.",
}
_OF_ALL = (403, 421, 500)
_OF_BODIES = (400, 408, 413, 422, 429, 502, 503, 504)
#: What needs no credentials.
_PUBLIC = frozenset(("/healthz", "/livez", "/readyz"))
_ERROR: JsonSchema = {
    "type": "object", "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, why, and how to mend it."},
        "path": {"type": "string", "description": "422: the path to the argument, or the part of it, that is wrong."},
        "known": {"type": "array", "items": {"type": "string"}, "description": "404: the names that there are."}}}
#: Schemas of our own. No class of Go's has a dot in its name.
_SCHEMAS: dict[str, JsonSchema] = {"gothreads.Error": _ERROR}
_RETRY_AFTER: JsonSchema = {"Retry-After": {"description": "Where trying again makes sense: after so many seconds.",
                                            "schema": {"type": "integer", "minimum": 1}}}
_NOTHING: JsonSchema = {"type": "null"}
_FLOAT_ARGUMENT: JsonSchema = {"type": "number"}


@dataclass(frozen=True)
class Names:
    """What there is now, besides exports."""

    functions: Sequence[str]
    handlers: Sequence[str]
    streaming: Collection[str]
    events: Sequence[str]


def document(app: Served, names: Names, root: str, schemes: JsonSchema | None = None,
             named: Sequence[NamedRoute] = ()) -> JsonSchema:
    """The document.

    root: the path under which the app is served. schemes: the ways to authenticate. named: further paths of the app.
    """
    schemes = schemes or {}
    declared = declared_by(app.loaded.metadata)
    schemas = JsonSchemas({each.name: each for each in declared.classes})
    paths: dict[str, JsonSchema] = {}
    for name in app.exports:
        paths[f"/api/call/{_path(name)}"] = {"post": _export(app.exports[name].signature)}
    for function in declared.functions:
        if function.name in names.functions:
            paths[f"/api/call/{_path(function.name)}"] = {"post": _function(function, schemas)}
    for name in names.handlers:
        paths[f"/api/request/{_path(name)}"] = {"post": _handler(name, streams=name in names.streaming)}
    for name in names.events:
        paths[f"/api/signal/{_path(name)}"] = {"post": _event(name)}
    for one in named:
        there = paths.get(f"/api/{'call' if one.kind == 'export' else 'request'}/{_path(one.name)}", {}).get("post")
        operation = there or _handler(one.name, streams=False)  # the module may not have it yet
        paths.setdefault(one.path, {})[one.method.lower()] = operation | {"operationId": f"{one.method} {one.path}"}
    paths |= _of_server()
    if schemes:
        _secure(paths)
    errors = {status: why for status, why in _ERRORS.items() if status != 401 or schemes}
    return {
        "openapi": "3.1.0",
        "info": {"title": app.loaded.name, "version": __version__,
                 "description": f"A Go module, served by gothreads {__version__}."},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": {**schemas.of_classes(), **_SCHEMAS},
                       "responses": {f"Error{status}": _error(status, why) for status, why in errors.items()},
                       **({"securitySchemes": schemes} if schemes else {})},
        **({"security": [{name: []} for name in schemes]} if schemes else {}),
    }


def _secure(paths: dict[str, JsonSchema]) -> None:
    """Say which operations need credentials: all but the public ones."""
    for path, methods in paths.items():
        for operation in methods.values():
            if path in _PUBLIC:
                operation["security"] = []
            else:
                operation["responses"] |= {"401": {"$ref": "#/components/responses/Error401"}}


def _error(status: int, why: str) -> JsonSchema:
    found = _response(why, {"$ref": "#/components/schemas/gothreads.Error"})
    return {**found, "headers": _RETRY_AFTER} if status in (429, 503) else found


def _export(signature: Signature) -> JsonSchema:
    args = items([described(_argument(each.type), f"{each.name} {each.type}") for each in signature.params])
    result = _NOTHING if signature.result is None else _result(signature.result)
    about = _About("call", signature.name, "functions", signature.declaration, signature.doc)
    return _call(about, args, {_JSON: _result_body(result)}, may_be_empty=not signature.params)


def _argument(go: str) -> JsonSchema:
    match go:
        case "bool":
            return {"type": "boolean"}
        case "string":
            return {"type": "string"}
        case "float32" | "float64":
            return dict(_FLOAT_ARGUMENT)
    return whole(*RANGES[go]) if go in RANGES else {}


def _result(go: str) -> JsonSchema:
    return dict(FLOAT) if go in ("float32", "float64") else _argument(go)


def _function(function: FunctionSchema, schemas: JsonSchemas) -> JsonSchema:
    if function.body is not None:
        return _with_body(function, schemas)
    params = {param.name: described(schemas.of(param.type), param.doc or param.go) for param in function.params}
    required = [*params]
    in_order = items(list(params.values()))
    if function.variadic:
        last = function.params[-1]
        required.remove(last.name)
        in_order = items(list(params.values())[:-1], more=schemas.of(last.type.item))
    by_name: JsonSchema = {"type": "object", "properties": params, "required": required, "additionalProperties": False}
    args = {"anyOf": [by_name, in_order]}
    about = _About("call", function.name, "functions", function.go, function.doc)
    return _call(about, args, _results(function.results, schemas), may_be_empty=not required)


def _with_body(function: FunctionSchema, schemas: JsonSchemas) -> JsonSchema:
    """A function that reads the request's body."""
    query = [{"in": "query", "name": param.name, "required": True, "schema": {"type": "string"},
              "description": param.doc.strip() or f"{param.go}, as JSON unless it is a text"}
             for param in function.params if param.name != function.body]
    about = _About("call", function.name, "functions", function.go, function.doc)
    answers = {"200": {"description": "The result.", "content": _results(function.results, schemas)}}
    found = _operation(about, {"description": f"{function.body}, of any length.", "content": {_BYTES: {}}}, answers)
    return {**found, "parameters": query} if query else found


def _results(results: tuple[Type, ...], schemas: JsonSchemas) -> JsonSchema:
    """The content of the response, by its type."""
    if results and results[0].shape == "stream":
        listed = {"type": "array", "items": schemas.of(results[0].of[0])}
        failed = {"type": "string", "description": "Why there are no more items."}
        return {_JSON: {"schema": {"type": "object", "properties": {"result": listed, "error": failed},
                                   "required": ["result"]}},
                _NDJSON: {}, _EVENTS: {}}  # a line, or an event, for each item; OpenAPI 3.1 has no schema for that
    match results:
        case ():
            result = _NOTHING
        case (single,):
            result = schemas.of(single)
        case _:
            result = items([schemas.of(each) for each in results])
    return {_JSON: _result_body(result)}


@dataclass(frozen=True)
class _About:
    """What an operation is."""

    verb: str
    name: str
    tag: str
    summary: str
    doc: str = ""


def _call(about: _About, args: JsonSchema, results: JsonSchema, *, may_be_empty: bool) -> JsonSchema:
    body: JsonSchema = {"type": "object", "properties": {"args": args}, "additionalProperties": False}
    if not may_be_empty:
        body["required"] = ["args"]
    return _operation(about, {"required": not may_be_empty, "content": {_JSON: {"schema": body}}},
                      {"200": {"description": "The result.", "content": results}})


def _handler(name: str, *, streams: bool) -> JsonSchema:
    about = _About("request", name, "handlers", f"The handler {name}")
    payload, reply = "The payload.", "What the handler has returned."
    kinds: JsonSchema = {_BYTES: {}, _JSON: {}}
    if streams:
        payload = "The body, of any length, which the handler reads as it comes."
        reply, kinds = "What the handler writes, as it does. If it fails, the answer breaks off.", {"*/*": {}}
    return _operation(about, {"description": payload, "content": {_BYTES: {}}},
                      {"200": {"description": reply, "content": kinds}})


def _event(name: str) -> JsonSchema:
    queued = _response("The event is in the queue.", {"type": "object", "properties": {"queued": {"const": True}}})
    return _operation(_About("signal", name, "events", f"The event {name}"),
                      {"description": "The payload.", "content": {_BYTES: {}}}, {"202": queued})


def _operation(about: _About, body: JsonSchema, answers: JsonSchema) -> JsonSchema:
    found: JsonSchema = {"operationId": f"{about.verb} {about.name}", "tags": [about.tag], "summary": about.summary,
                         "requestBody": body, "responses": {**answers, **_errors(404, *_OF_BODIES)}}
    return described(found, about.doc)


def _of_server() -> dict[str, JsonSchema]:
    exports, itself = (_response(what, {"type": "object"}) for what in ("Names and declarations.", "OpenAPI 3.1."))
    probe = _response("Yes.", {"type": "object", "properties": {"ok": {"const": True}}, "required": ["ok"]})
    health = _response("Its state.", {"type": "object", "properties": {"state": {"type": "string"}}})
    return {
        "/api/exports": _look("exports", "What can be called", {"200": exports}),
        "/openapi.json": _look("openapi", "This document", {"200": itself}),
        "/healthz": _look("health", "The state of the module", {"200": health, "503": health}),
        "/livez": _look("live", "Whether the process should go on", {"200": probe, **_errors(503)}),
        "/readyz": _look("ready", "Whether calls are taken", {"200": probe, **_errors(503)}),
    }


def _look(name: str, summary: str, answers: JsonSchema) -> JsonSchema:
    return {"get": {"operationId": name, "tags": ["server"], "summary": summary,
                    "responses": {**answers, **_errors()}}}


def _errors(*statuses: int) -> JsonSchema:
    return {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in sorted({*statuses, *_OF_ALL})}


def _response(why: str, schema: JsonSchema) -> JsonSchema:
    return {"description": why, "content": {_JSON: {"schema": schema}}}


def _result_body(result: JsonSchema) -> JsonSchema:
    return {"schema": {"type": "object", "properties": {"result": result}, "required": ["result"]}}


def _path(name: str) -> str:
    return quote(name, safe="")
