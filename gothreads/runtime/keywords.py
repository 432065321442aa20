"""Options of public functions, each defined once: a TypedDict whose fields are annotated with an Option.

    class OpenOptions(TypedDict, total=False):
        procs: Annotated[int | None, Option(None, "GOMAXPROCS", check=whole(1, MOST_PROCS))]

    @documented(OpenOptions)
    def open(path: str, **options: Unpack[OpenOptions]) -> App:
        "Start a module. …  {OpenOptions}"

Type checkers and editors read the field's type. The Option has the default, the documentation and the check: for
`help()`, `inspect.signature` and the command line. The modules that define such a TypedDict do not postpone the
evaluation of annotations, so the Options exist without the types being resolved; a type that is expensive to import is
quoted.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ForwardRef, TypeVar

from gothreads.errors import ArgumentError, MisuseError
from gothreads.text import closest, cut

#: Checks the value of the option of that name. Raises MisuseError.
Check = Callable[[str, Any], object]

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """One option.

    default: its value if it is not given. If that is None, None is also accepted when it is given.
    help: what it is for, in a phrase, also for the command line.
    more: sentences about its use in Python.
    """

    default: Any
    help: str
    more: str = ""
    check: Check | None = None

    @property
    def phrase(self) -> str:
        """`help` on one line."""
        return " ".join(self.help.split())

    def verify(self, name: str, value: Any) -> None:
        """MisuseError if a value that is given for the option is wrong. name: what the error calls the option."""
        if self.check is not None and not (value is None and self.default is None):
            self.check(name, value)


@functools.cache
def definition(options: type) -> Mapping[str, Option]:
    """The options that such a TypedDict defines, by name."""
    return {name: annotated.__metadata__[0] for name, annotated in options.__annotations__.items()}


def complete(function: str, options: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options that were given, and add the defaults of the others.

    MisuseError for a wrong value; ArgumentError, which is also a TypeError, for a name that `function` does not have.
    """
    known = definition(options)
    for name, value in given.items():
        if name not in known:
            raise ArgumentError(_unknown(function, name, known))
        known[name].verify(name, value)
    return {name: given.get(name, option.default) for name, option in known.items()}


def _unknown(function: str, name: str, known: Mapping[str, Option]) -> str:
    close = closest(name, known)
    hint = f"Did you mean {close}?" if close else f"It has: {', '.join(known)}"
    return f"{function} has no option {cut(name)}. {hint}"


def documented(*kinds: type) -> Callable[[_Function], _Function]:
    """Complete the signature and the docstring of a function that takes these options as `**options`.

    In the docstring, the name of each TypedDict in braces, on a line of its own, stands for its options.
    """
    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        parameters = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        for kind in kinds:
            parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default,
                                             annotation=_type(kind, name))
                           for name, option in definition(kind).items()]
            if function.__doc__:  # not with python -OO
                function.__doc__ = function.__doc__.replace(f"    {{{kind.__name__}}}\n", _described(kind))
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function
    return decorate


def _type(options: type, name: str) -> object:
    """The type of an option, as its definition has it."""
    kind = options.__annotations__[name].__origin__
    return kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind


def _described(options: type) -> str:
    """The part of a docstring that describes the options."""
    lines = []
    for name, option in definition(options).items():
        first, *rest = inspect.cleandoc(option.help).splitlines()
        lines += [f"{name}: {first}", *(f"    {line}" for line in rest)]
        lines[-1] += "."
        lines += [f"    {line}" for line in inspect.cleandoc(option.more).splitlines()]
    return "".join(f"    {line}\n" for line in lines)


# Checks that several options share.

def check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise MisuseError(f"{name} must be True or False, not {cut(value)}")


def whole(least: int, most: int | None = None) -> Check:
    """A check for an int in that range."""
    def check(name: str, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise MisuseError(f"{name} must be an int, not {cut(value)}")
        if most is not None and not least <= value <= most:
            raise MisuseError(f"{name} must be between {least} and {most}, not {cut(value)}")
        if value < least:
            raise MisuseError(f"{name} must be at least {least}, not {cut(value)}")
    return check


def one_of(*values: str, function: bool = False) -> Check:
    """A check for one of these values; with `function`, a function is valid too."""
    *others, last = [*(f'"{value}"' for value in values), *(["a function"] if function else [])]

    def check(name: str, value: object) -> None:
        if not (isinstance(value, str) and value in values) and not (function and callable(value)):
            raise MisuseError(f"{name} must be {', '.join(others)} or {last}, not {cut(value)}")
    return check
