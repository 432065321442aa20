"""A user's own module: its exports, called at random from many threads."""

from __future__ import annotations

import math
import random
import struct
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from gothreads.bridge.host_registry import load_host
from gothreads.errors import MisuseError, NotCallable, unknown
from gothreads.launch import OpenOptions, find
from gothreads.runtime.module_file import LoadedModule
from gothreads.text import cut
from gothreads.tools.stress.scenario import Scenario
from gothreads.tools.stress.scenario_context import ScenarioContext, StressPlan
from gothreads.wasm.signature import Signature

#: How many different argument lists each pure export is called with: few enough that they recur.
_PURE_ARGUMENTS = 100
_BITS = {"int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "uintptr": 32}
_FLOATS = (0.0, -0.0, 1.0, -1.5, math.inf, -math.inf, math.nan, 1e30, 1e-30)


class ModuleScenario(Scenario):
    """`pure`: exports whose results depend on their arguments alone, which is checked. It is a failure if the module
    ends, for any reason.
    """

    name: ClassVar[str] = "module"
    description: ClassVar[str] = "a module's own exports, with any arguments, from all threads"
    invariants: ClassVar[Sequence[str]] = (
        "the module does not end", "every call returns", "pure exports return the same for the same arguments")

    def __init__(self, path: str, exports: Sequence[str], pure: Sequence[str], python: str | None = None) -> None:
        """`python`: the file with the functions that the module imports. MisuseError when there is nothing to call."""
        self._python = python
        self._path, self._names, self._pure = path, list(dict.fromkeys((*exports, *pure))), frozenset(pure)
        if not self._names:
            raise MisuseError("--module needs --exports, or --pure: which exports are to be called")

    def module(self, plan: StressPlan) -> LoadedModule:
        """UnknownExport, NotCallable, MisuseError, and what `find` raises."""
        loaded = find(self._path)
        if loaded.entry == "_start" and (loaded.foreign or loaded.model == "single"):
            raise NotCallable(f"{self._path} is a program, which takes no calls on one thread. "
                              "Build it for threads: gothreads build --model threaded")
        signatures = {export.name: export.signature for export in loaded.exports}
        for name in self._names:
            if name not in signatures:
                raise unknown("export", name, sorted(signatures))
            for parameter in signatures[name].params:
                if parameter.type not in _BITS and parameter.type not in ("bool", "float32", "float64", "string"):
                    raise MisuseError(f"{name} takes a pointer ({parameter.name}), for which no random value is valid: "
                                      f"{signatures[name].declaration}")
        return loaded

    def words(self) -> list[str]:
        options = {"--exports": [name for name in self._names if name not in self._pure],
                   "--pure": [name for name in self._names if name in self._pure]}
        words = ["--module", self._path, *(["--python", self._python] if self._python else [])]
        return words + [word for option, names in options.items() if names for word in (option, ",".join(names))]

    def options(self) -> OpenOptions:
        return OpenOptions(host=load_host(self._python)) if self._python else OpenOptions()

    def run(self, context: ScenarioContext) -> None:
        results: dict[tuple[str, int], Any] = {}  # guarded by lock; by export and number of the argument list
        lock = threading.Lock()
        with context.open() as app:
            signatures = {name: app.exports[name].signature for name in self._names}

            def work(_place: int, draw: random.Random) -> None:
                name = draw.choice(self._names)
                number = draw.randrange(_PURE_ARGUMENTS)
                pure = name in self._pure
                chosen = arguments(signatures[name], context.random(name, number) if pure else draw)
                result = app.exports[name](*chosen)
                if pure:
                    with lock:
                        first = results.setdefault((name, number), result)
                    # By their representations, in which NaN equals NaN.
                    call = f"{name}({', '.join(map(cut, chosen))})"
                    context.check(repr(first) == repr(result),
                                  f"{call} returns {result!r}, and returned {first!r} before")
                context.count(checked=int(pure))
            context.callers(work)


def arguments(signature: Signature, draw: random.Random) -> tuple[Any, ...]:
    """Random arguments of its types, often edge cases."""
    return tuple(_argument(parameter.type, draw) for parameter in signature.params)


def _argument(kind: str, draw: random.Random) -> Any:
    match kind:
        case "bool":
            return draw.random() < 0.5
        case "float64" | "float32":
            value = draw.choice(_FLOATS) if draw.random() < 0.3 else draw.uniform(-1e6, 1e6)
            return value if kind == "float64" else struct.unpack("<f", struct.pack("<f", value))[0]
        case "string":
            return "".join(draw.choices("abc 0\n\"é€😀\0", k=draw.choice((0, 1, 10, 10, 1000))))
    low, bits = 0, _BITS[kind]
    if kind.startswith("int"):
        low = -1 << (bits - 1)
    high = low + (1 << bits) - 1
    edges = (low, low + 1, 0, 1, 2, 10, 100, high - 1, high)
    return draw.choice(edges) if draw.random() < 0.3 else draw.randint(low, high)
