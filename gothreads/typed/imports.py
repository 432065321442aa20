"""What Python implements for a module: Go's variables with //gothreads:import, given as `open(..., imports=...)`.

They are checked when the module is opened, as far as the signatures of the Python functions tell.
"""

from __future__ import annotations

import array
import collections.abc
import datetime
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gothreads.bridge.handlers import Handler
from gothreads.bridge.python_signatures import describe_function, signature_of
from gothreads.errors import MisuseError, listed
from gothreads.text import cut, shown, words
from gothreads.typed.classes import Classes, classes_of
from gothreads.typed.lending import Loan, handler_of, lender_for
from gothreads.typed.names import NAMES
from gothreads.typed.schema import ImportSchema, MethodSchema, Type

#: The handlers of imports have their names after this (build/goroot/gothreads/guest/wire/imports.go).
_PREFIX = "gothreads:import "
#: Shape -> the class of the values that Go gives. Other shapes are integers.
_GIVEN: Mapping[str, type] = {
    "bool": bool, "string": str, "text": str, "float32": float, "float64": float, "complex64": complex,
    "complex128": complex, "bytes": bytes, "numbers": array.array, "list": list, "set": set, "dict": dict,
    "time": datetime.datetime, "duration": datetime.timedelta}
_LISTS = (list, tuple, set, frozenset)
#: Shape -> the classes of the values that Go takes, of those in _KNOWN. Other shapes are integers.
_TAKEN: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,), "string": (str,), "text": (str,), "float32": (float, int), "float64": (float, int),
    "complex64": (complex, float, int), "complex128": (complex, float, int), "bytes": (bytes, bytearray),
    "numbers": (list, tuple, bytes, bytearray), "list": _LISTS, "set": _LISTS, "dict": (dict,),
    "time": (datetime.datetime,), "duration": (datetime.timedelta,)}
_KNOWN = {int, type(None), *(kind for kinds in _TAKEN.values() for kind in kinds)}


def implement(title: str, description: Mapping[str, Any], given: Mapping[str, Any], loan: Loan) -> dict[str, Handler]:
    """The handlers by which a module calls what is given. MisuseError lists all that does not fit.

    title: the module's name in messages. description: of its types.
    """
    classes = classes_of(description)
    imports = classes.schema.imports
    handlers: dict[str, Handler] = {}
    missing, wrong = [], []
    for each in imports:
        if each.name not in given:
            missing.append(f"{each.name} is missing: {shown(each.go)}")
            continue
        try:
            value = _object(each, given[each.name])
        except MisuseError as error:
            wrong.append(str(error))
            continue
        for method in each.methods:
            name, function = _qualified(each, method), getattr(value, method.name, None) if method.name else value
            if (why := _misfit(method, function, classes)) is not None:
                wrong.append(f"{name} must be {_declaration(each, method)}, for Go's {shown(method.go)}: {why}")
                continue
            lender = lender_for(name, [param.type for param in method.params], method.results, classes)
            handlers[_PREFIX + name] = handler_of(loan, lender, function)
    if extra := [name for name in given if all(name != each.name for each in imports)]:
        are, them = ("are", "them") if len(extra) > 1 else ("is", "it")
        names = listed(sorted(each.name for each in imports)) or "nothing"
        wrong.append(f"{listed(extra)} {are} given, but the module does not import {them}; it imports: {names}")
    if wrong or missing:
        first = (missing or [""])[0].partition(" ")[0] or next(iter(given))
        raise MisuseError("\n  ".join([f"{title}: the imports do not match the module's (//gothreads:import):", *wrong,
                                       *missing, "They come from Python: gothreads.open(..., "
                                       f'imports={{"{first}": …}}); on the command line: --python FILE']))
    return handlers


def _object(each: ImportSchema, given: Any) -> Any:
    """What implements an import: a class is instantiated. MisuseError."""
    if not each.methods[0].name or not isinstance(given, type):
        return given
    try:
        return given()
    except Exception as error:
        raise MisuseError(f"{each.name}: {given.__name__}() raised {words(error)}. Give an object instead") from error


def _qualified(each: ImportSchema, method: MethodSchema) -> str:
    return f"{each.name}.{method.name}" if method.name else each.name


def _declaration(each: ImportSchema, method: MethodSchema) -> str:
    """The Python function that is wanted."""
    params = ", ".join(map(NAMES.parameter, method.params))
    return f"{method.name or each.name}({params}) -> {NAMES.result(method.results)}"


def _misfit(method: MethodSchema, function: Any, classes: Classes) -> str | None:
    """Why a Python function does not fit a method; None if it may."""
    if function is None:
        return "it is missing"
    if not callable(function):
        return f"it is {cut(function)}"
    signature = signature_of(function)
    if signature is None:  # built-in functions may have none
        return None
    kinds = [param.type for param in method.params]
    rest = bool(kinds) and kinds[-1].shape == "rest"
    described = describe_function(function, str(signature))
    try:
        signature.bind(*[None] * (len(kinds) + rest))  # of the rest, two
    except TypeError as error:
        return f"{error}: {described}"
    annotations = [param.annotation for param in signature.parameters.values()
                   if param.kind in (param.POSITIONAL_ONLY, param.POSITIONAL_OR_KEYWORD, param.VAR_POSITIONAL)]
    for param, annotation in zip(method.params, annotations, strict=False):
        if param.type.shape != "rest" and not _accepts(param.type, annotation, classes):
            return f"its {param.name} gets {NAMES.of(param.type)}: {described}"
    if not _returns(method.results, signature.return_annotation, classes):
        return f"it must return {NAMES.result(method.results)}: {described}"
    return None


def _members(annotation: object) -> Iterator[object]:
    """The types that an annotation allows, as classes where they are known; anything else otherwise."""
    if isinstance(annotation, typing.NewType):
        annotation = annotation.__supertype__
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    elif annotation is None:
        yield type(None)
    else:
        yield origin or annotation


def _accepts(kind: Type, annotation: object, classes: Classes) -> bool:
    """Whether a parameter with this annotation may get all values of a type."""
    members = list(_members(annotation))
    while kind.shape == "pointer":
        if not any(_is_a(type(None), member) for member in members):
            return False
        kind = kind.of[0]
    if kind.shape == "any":
        return True
    given = getattr(classes.module, kind.name) if kind.shape == "class" else _GIVEN.get(kind.shape, int)
    return any(_is_a(given, member) for member in members)


def _is_a(given: type, member: object) -> bool:
    """Whether a value of a class is what an annotation allows, as far as is known."""
    if not isinstance(member, type) or member in (Any, inspect.Parameter.empty):
        return True
    if member in (float, complex) and given in (int, float):
        return True
    try:
        return issubclass(given, member)
    except TypeError:  # a protocol
        return True


def _returns(results: Sequence[Type], annotation: object, classes: Classes) -> bool:
    """Whether what a function with this annotation returns may be these results."""
    if typing.get_origin(annotation) in (collections.abc.Awaitable, collections.abc.Coroutine):
        annotation = typing.get_args(annotation)[-1]
    if not results:
        return True
    if len(results) == 1:
        return all(_takes(results[0], member, classes) for member in _members(annotation))
    items = typing.get_args(annotation)
    if typing.get_origin(annotation) is not tuple or Ellipsis in items:
        return all(member in (list, tuple) or member not in _KNOWN for member in _members(annotation))
    return len(items) == len(results) and all(_returns([each], item, classes)
                                              for each, item in zip(results, items, strict=True))


def _takes(kind: Type, member: object, classes: Classes) -> bool:
    """Whether Go takes a value of a class as a type, as far as is known."""
    while kind.shape == "pointer":
        if member is type(None):
            return True
        kind = kind.of[0]
    if kind.shape == "any":
        return True
    if kind.shape == "class":
        wanted = getattr(classes.module, kind.name)
        return member in (wanted, dict, *wanted.__mro__[1:-1]) or not _is_known(member, classes)
    return member in _TAKEN.get(kind.shape, (int,)) or not _is_known(member, classes)


def _is_known(member: object, classes: Classes) -> bool:
    try:
        return member in _KNOWN or getattr(member, "__module__", "") == classes.module.__name__
    except TypeError:  # it has no hash
        return False
