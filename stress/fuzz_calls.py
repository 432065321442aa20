"""Arguments, payloads and names of any kind, against tests/modules/calls in all four models; and host functions that
return anything.

    python -m stress.fuzz_calls [--seconds 60] [--count N] [--seed N] [--only NAME]

    exports     any Python values as arguments of every type: the right result, or ArgumentError
    payloads    handlers' payloads from empty to 64 MiB, as bytes, bytearray, memoryview and str
    names       exports, handlers and events of any name
    host        functions for tests/modules/hostcalls that return any Python value, or raise: each in its own app,
                which it may end

A call returns what Python would have computed, or raises a gothreads error; and the app runs on, unless a host function
failed.
"""

from __future__ import annotations

import contextlib
import math
import operator
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gothreads
from stress import random_values
from stress.fuzzing import Finding, Part, main
from tests.support.modules import MODELS, opened

#: The largest payload: the most that `gothreads serve` accepts, too.
LARGEST = 64 << 20

_RANGES = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1),
           "uint64": (0, (1 << 64) - 1),
           "uintptr": (0, (1 << 32) - 1)}


class Refused(Exception):
    """The value does not belong to the type."""


def as_go_has_it(go_type: str, value: Any) -> Any:
    """The value of an argument in Go, by an independent statement of the rules. Refused when it cannot be one."""
    match go_type:
        case "bool":
            if type(value) is bool:
                return value
        case "string":
            if isinstance(value, str):
                with contextlib.suppress(UnicodeEncodeError):
                    return value.encode()
            elif isinstance(value, bytes | bytearray | memoryview):
                return bytes(value)
        case "float32" | "float64":
            if not isinstance(value, bool | str | bytes | bytearray | memoryview):
                with contextlib.suppress(TypeError, ValueError, OverflowError):
                    number = float(value)
                    return number if go_type == "float64" else struct.unpack("<f", struct.pack("<f", number))[0]
        case _ if not isinstance(value, bool):
            low, high = _RANGES[go_type]
            with contextlib.suppress(TypeError):
                number = operator.index(value)
                if low <= number <= high:
                    return number
    raise Refused


#: Exports of the module: the types of their parameters, and what they compute.
_EXPORTS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "add": (("int32", "int32"), lambda a, b: (a + b + (1 << 31)) % (1 << 32) - (1 << 31)),
    "int32s": (("int32",), lambda v: v), "uint32s": (("uint32",), lambda v: v), "int64s": (("int64",), lambda v: v),
    "uint64s": (("uint64",), lambda v: v), "float32s": (("float32",), lambda v: v),
    "float64s": (("float64",), lambda v: v),
    "bools": (("bool",), lambda v: not v),
    "uintptrs": (("uintptr",), lambda v: v), "length": (("string",), len),
    "compare": (("string", "int32", "string"),
                lambda a, n, b: (n * ((a > b) - (a < b)) + (1 << 31)) % (1 << 32) - (1 << 31)),
    "same": (("int64", "string"), lambda _n, _s: False)}


@dataclass(frozen=True)
class CallCase:
    """A call of an export, or of a handler if it has a `payload`."""

    model: str
    name: Any
    args: tuple[Any, ...] = ()
    payload: Any = None
    how: str = "call"


class AppPart(Part[CallCase]):
    """Calls of one running app for each model."""

    def __init__(self, models: tuple[str, ...] = tuple(MODELS)) -> None:
        self.models = models
        self.apps: dict[str, gothreads.App] = {}

    def __enter__(self) -> AppPart:
        with contextlib.ExitStack() as opening:
            null = opening.enter_context(open("/dev/null", "wb"))
            for model in self.models:
                app = opened("calls", model, stderr=null, stdout=null, instances=2 if model == "pool" else None)
                self.apps[model] = opening.enter_context(app)
            self._opened = opening.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def attempt(self, case: CallCase) -> str:
        outcome = self.tried(self.apps[case.model], case)
        if (state := self.apps[case.model].state.value) != "running":
            raise Finding(f"the app no longer runs: it is {state}")
        return outcome

    def tried(self, app: gothreads.App, case: CallCase) -> str:
        raise NotImplementedError


class Exports(AppPart):
    name = "exports"

    def make(self, choose: random.Random) -> CallCase:
        title = choose.choice(sorted(_EXPORTS))
        types, _ = _EXPORTS[title]
        count = len(types) if choose.random() < 0.9 else choose.randrange(6)
        args = tuple(fitting(choose, types[place]) if place < len(types) and choose.random() < 0.5
                     else random_values.value(choose)
                     for place in range(count))
        return CallCase(choose.choice(self.models), title, args, how=choose.choice(("call", "submit", "map")))

    def tried(self, app: gothreads.App, case: CallCase) -> str:
        types, compute = _EXPORTS[case.name]
        try:
            if len(case.args) != len(types):
                raise Refused
            expected = compute(*(as_go_has_it(*pair) for pair in zip(types, case.args, strict=True)))
        except Refused:
            expected = Refused
        try:
            match case.how:
                case "submit":
                    result = app.submit(case.name, *case.args).result(30)
                case "map" if case.args:
                    (result,) = app.map(case.name, *([argument] for argument in case.args))
                case _:
                    result = app.exports[case.name](*case.args)
        except gothreads.ArgumentError as error:
            if expected is not Refused:
                raise Finding(f"refused: {error}") from None
            return "refused"
        if expected is Refused:
            raise Finding(f"accepted, with the result {result!r}")
        if type(result) is not type(expected) or not same(result, expected):
            raise Finding(f"{result!r}, not {expected!r}")
        return "right"


def same(result: Any, expected: Any) -> bool:
    return bool(result == expected or (math.isnan(result) and math.isnan(expected)))


def fitting(choose: random.Random, go_type: str) -> Any:
    match go_type:
        case "bool":
            return choose.random() < 0.5
        case "string":
            if choose.random() < 0.6:
                return random_values.text(choose)
            return choose.randbytes(choose.choice((0, 1, 100, 70_000)))
        case "float32" | "float64":
            return random_values.floating(choose)
        case _:
            low, high = _RANGES[go_type]
            return choose.choice((low, high, 0, 1, choose.randint(low, high)))


class Payloads(AppPart):
    name = "payloads"

    def __init__(self, models: tuple[str, ...] = tuple(MODELS), *, largest: int = LARGEST) -> None:
        super().__init__(models)
        self.largest = largest

    def make(self, choose: random.Random) -> CallCase:
        payload: Any
        if choose.random() < 0.5:
            size = choose.choice((0, 1, 7, 4_096, 65_535, 65_536, 65_537, 1 << 20))
            if choose.random() < 0.01:
                size = choose.choice((self.largest, self.largest - 1, choose.randrange(self.largest)))
            payload = choose.randbytes(min(size, 1 << 16)) * (-(-size // (1 << 16)))
            payload = choose.choice((bytes, bytearray, memoryview))(payload[:size])
        else:
            payload = random_values.text(choose) if choose.random() < 0.7 else random_values.value(choose)
        return CallCase(choose.choice(self.models), choose.choice(("echo", "echo", "upper", "fail")), payload=payload,
                    how=choose.choice(("call", "submit")))

    def tried(self, app: gothreads.App, case: CallCase) -> str:
        try:
            sent = as_go_has_it("string", case.payload)
        except Refused:
            sent = None
        try:
            reply = (app.request(case.name, case.payload) if case.how == "call"
                     else app.submit_request(case.name, case.payload).result(60))
        except gothreads.HandlerError as error:
            if case.name != "fail" or sent is None or str(error) != "no: " + sent.decode(errors="replace"):
                raise Finding(f"an error from Go: {str(error)[:300]!r}") from None
            return "the handler's error"
        except gothreads.MisuseError as error:
            if sent is not None:
                raise Finding(f"refused: {error}") from None
            return "refused"
        if sent is None or case.name == "fail":
            raise Finding(f"accepted, with the reply {reply[:100]!r}")
        if case.name == "echo" and reply != sent:
            raise Finding(f"{len(sent):,} bytes were answered with {len(reply):,} others")
        return "right"

    def stored(self, case: CallCase) -> bytes:
        return super().stored(case)[:100_000]


class Names(AppPart):
    name = "names"

    def make(self, choose: random.Random) -> CallCase:
        title = random_values.text(choose, longest=100_000) if choose.random() < 0.8 else random_values.value(choose)
        known = ["", "add", "echo", "__class__", "_functions", "gothreads_buffer", "gt_enter", "memory", "_start",
                 "echo\0", "echo ", "Echo"]
        return CallCase(choose.choice(self.models), choose.choice(known) if choose.random() < 0.1 else title,
                    how=choose.choice(("request", "submit_request", "submit", "exports", "attribute", "signal",
                                       "contains")))

    def tried(self, app: gothreads.App, case: CallCase) -> str:
        try:
            match case.how:
                case "request":
                    app.request(case.name, b"")
                case "submit_request":
                    app.submit_request(case.name, b"").result(30)
                case "submit":
                    app.submit(case.name)
                case "exports":
                    repr(app.exports[case.name])
                case "attribute" if isinstance(case.name, str):
                    getattr(app.exports, case.name)
                case "signal":
                    app.signal(case.name, b"", full="drop")
                case _:
                    try:
                        return f"{case.how}: {case.name in app.exports}"
                    except TypeError:  # an unhashable value is not a key, as in a dict
                        return "not hashable"
        except gothreads.MisuseError as error:
            if not str(error).isprintable():
                raise Finding(f"an error that is not one printable line: {str(error)[:500]!r}") from None
            return f"{case.how}: {type(error).__name__}"
        except AttributeError:
            if case.how == "attribute" and str(case.name).startswith("__"):
                return "no attribute"
            raise
        return f"{case.how}: there"


# Host functions.

_RESULTS = {"bools": ("bool", True), "int32s": ("int32", 1), "uint32s": ("uint32", 1), "int64s": ("int64", 1),
            "uint64s": ("uint64", 1),
            "float32s": ("float32", 1.0), "float64s": ("float64", 1.0), "uintptrs": ("uintptr", 1),
            "text": ("uint32", "x")}
_RAISED = (ValueError("x" * 100_000), KeyError(), OSError(5, "io"), RecursionError(), MemoryError(), StopIteration(1),
           SystemExit(3), KeyboardInterrupt(),
           GeneratorExit(), AssertionError(random_values.Mute()), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\ud800"),
           gothreads.AppClosed("no"))


class HostFunctions(Part[CallCase]):
    """`name` of the call is the name of the function, `payload` what it returns, or raises with how="raise"."""

    name = "host"

    def __init__(self, models: tuple[str, ...] = tuple(MODELS)) -> None:
        self.models = models

    def make(self, choose: random.Random) -> CallCase:
        name = choose.choice(sorted(_RESULTS))
        if choose.random() < 0.15:
            return CallCase(choose.choice(self.models), name, payload=choose.choice(_RAISED), how="raise")
        model = choose.choice(self.models)
        payload = fitting(choose, _RESULTS[name][0]) if choose.random() < 0.3 else random_values.value(choose)
        return CallCase(model, name, payload=payload)

    def attempt(self, case: CallCase) -> str:
        go_type, argument = _RESULTS[case.name]

        def function(_value: object) -> Any:
            if case.how == "raise":
                raise case.payload
            return case.payload
        others: dict[str, Any] = {name: lambda *_: 0
                                  for name in ("all", "log", "fill", "wait", "peek", "wide", "enter")}
        host: dict[str, Any] = {"env": others | {name: lambda value: value for name in _RESULTS},
                                "elsewhere": {"tick": lambda: None, "twice": lambda n: n}}
        host["env"][case.name] = function
        try:
            expected = Refused if case.how == "raise" else as_go_has_it(go_type, case.payload)
        except Refused:
            expected = Refused
        instances = 1 if case.model == "pool" else None
        with open("/dev/null", "wb") as null, opened("hostcalls", case.model, host=host, stderr=null,
                                                     instances=instances) as app:
            try:
                result = app.exports[case.name](argument)
            except gothreads.HostFunctionError as error:
                if expected is not Refused:
                    raise Finding(f"refused: {error}") from None
                if error.__cause__ is None:
                    raise Finding("the error has no cause") from None
                return "HostFunctionError"
            if expected is Refused:
                raise Finding(f"accepted, with the result {result!r}")
            if not same(result, expected):
                raise Finding(f"{result!r}, not {expected!r}")
        return "right"


PARTS: list[Part[Any]] = [Exports(), Payloads(), Names(), HostFunctions()]


if __name__ == "__main__":
    sys.exit(main("stress.fuzz_calls", PARTS, __doc__))
