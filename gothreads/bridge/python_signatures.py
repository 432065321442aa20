"""Signatures of the Python functions that a module calls: parameters, and what their annotations allow."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gothreads.bridge.context import CallContext

Function = Callable[..., Any]

_TYPE_NAMES: Mapping[object, str] = {int: "int", float: "float", bool: "bool", str: "str", bytes: "bytes", None: "None",
                                     type(None): "None"}
#: Annotation that is a string -> the name of its type.
_BY_TEXT = {name: name for name in _TYPE_NAMES.values()} | {"Context": "Context", "gothreads.Context": "Context"}


def signature_of(function: Function) -> inspect.Signature | None:
    """Return the function's signature, or None if it has none.

    Annotations are evaluated where possible, which excludes names that are imported for type checkers only.
    """
    for options in ({"eval_str": True}, _unevaluated()):
        try:
            return inspect.signature(function, **options)
        except Exception:  # annotations may raise anything
            continue
    return None


def _unevaluated() -> dict[str, Any]:
    if sys.version_info < (3, 14):
        return {}
    return {"annotation_format": importlib.import_module("annotationlib").Format.STRING}


def allowed_types(annotation: object) -> frozenset[str]:
    """Return the names of the types that an annotation allows.

    Empty if one of them is neither in _TYPE_NAMES nor Context: then nothing is known about the values.
    """
    parts: Sequence[object] = (annotation,)
    if isinstance(annotation, str):
        parts = [_BY_TEXT.get(part.strip()) for part in annotation.split("|")]
        return frozenset(part for part in parts if isinstance(part, str)) if None not in parts else frozenset()
    if isinstance(annotation, typing.NewType):
        return allowed_types(annotation.__supertype__)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return allowed_types(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [allowed_types(part) for part in typing.get_args(annotation)]
        return frozenset().union(*members) if all(members) else frozenset()
    if isinstance(annotation, type) and issubclass(annotation, CallContext):
        return frozenset(("Context",))
    name = _TYPE_NAMES.get(annotation) if isinstance(annotation, type | None) else None
    return frozenset() if name is None else frozenset((name,))


def takes_context(function: Function) -> bool:
    """Whether a handler of guest.Call takes a context after the payload: its second parameter is annotated so."""
    signature = signature_of(function)
    parameters = [] if signature is None else list(signature.parameters.values())
    return len(parameters) > 1 and "Context" in allowed_types(parameters[1].annotation)


def takes_payload(function: Function) -> str | None:
    """Return None if a function can be a handler of guest.Call, otherwise its description for an error message.

    It can if it takes the payload and, if annotated so, the context.
    """
    signature = signature_of(function)
    if signature is None:
        return None  # built-in functions may have none
    try:
        signature.bind(*(None,) * (2 if takes_context(function) else 1))
    except TypeError:
        return describe_function(function, str(signature))
    return None


def describe_function(function: Function, signature: str = "") -> str:
    """A function's name and signature, and where it is defined."""
    name = f"{getattr(function, '__qualname__', None) or repr(function)}{signature}"
    place = definition_place(function, ":")
    return f"{name} ({place})" if place else name


def definition_place(function: Function, separator: str) -> str:
    """A function's file and first line, joined by `separator`; "" if unknown."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}{separator}{code.co_firstlineno}" if code is not None else ""
