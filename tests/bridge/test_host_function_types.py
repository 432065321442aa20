"""Checks that Python functions fit a module's imports: all mistakes are reported together, before anything runs.

The errors show both the Go and the Python declaration.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NewType

import pytest

import gothreads
from gothreads.bridge.host_imports import HostImports
from gothreads.bridge.host_registry import given_functions
from gothreads.errors import MisuseError, ModuleError
from gothreads.wasm import code
from gothreads.wasm.binary import FuncType, Import, Kind, Module
from gothreads.wasm.signature import ImportSignature, Parameter

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

Celsius = NewType("Celsius", float)
WASM = {"bool": code.I32, "int32": code.I32, "uint32": code.I32, "pointer": code.I32, "int64": code.I64,
        "uint64": code.I64, "float32": code.F32,
        "float64": code.F64, "string": code.I32 * 2, "?": code.I64}


def declared(name: str, *types: str, result: str | None = None, module: str = "env") -> ImportSignature:
    params = tuple(Parameter(f"p{i}", of) for i, of in enumerate(types))
    go = f"func {name}({', '.join(f'{p.name} {p.type}' for p in params)}){f' {result}' if result else ''}"
    return ImportSignature(name, go, name, "main", "", params, result, "main.go:7", module)


def imports(*signatures: ImportSignature) -> Module:
    module = Module()
    for signature in signatures:
        module.types.append(FuncType(b"".join(WASM[p.type] for p in signature.params), WASM[signature.result]
                                     if signature.result else b""))
        module.imports.append(Import(signature.module, signature.name, Kind.FUNC, bytes([len(module.types) - 1])))
    return module


def fit(functions: dict[str, Callable[..., Any]], *signatures: ImportSignature, known: bool = True) -> None:
    """Check functions against imports. `known`: the module has Go declarations, not only WebAssembly types."""
    HostImports("app.wasm", imports(*signatures), signatures if known else (),
                {("env", name): f for name, f in functions.items()}, lambda *_: False)


def refused(function: Callable[..., Any], *types: str, result: str | None = None, known: bool = True) -> str:
    with pytest.raises(MisuseError) as raised:
        fit({"f": function}, declared("f", *types, result=result), known=known)
    head, said = str(raised.value).split("\n  ")
    assert head == "app.wasm: the host functions do not match the module's imports:"
    assert said.startswith("env.f: ")
    return said.removeprefix("env.f: ")


def two(a: int, b: str) -> bool:
    return bool(b) and a > 0


class Methods:
    def method(self, a: int, b: str) -> bool:
        return two(a, b)

    @staticmethod
    def static(a: int, b: str) -> bool:
        return two(a, b)

    def __call__(self, a: int, b: str) -> bool:
        return two(a, b)

    async def later(self, a: int, b: str) -> bool:
        return two(a, b)


class Later:
    async def __call__(self, a: int, b: str) -> bool:
        return two(a, b)


@functools.wraps(two)
def wrapped(*args: Any) -> Any:
    return two(*args)


def with_context_first(ctx: gothreads.Context, a: int, b: str) -> bool: ...  # type: ignore[empty-body]
def with_context_between(a: int, ctx: gothreads.Context | None, b: str) -> bool: ...  # type: ignore[empty-body]
def with_context_by_name(a: int, b: str, c: int = 1, *, ctx: gothreads.Context) -> bool: ...  # type: ignore[empty-body]
def with_all(*args: Any, **named: Any) -> Any: ...
def with_a_name_for_type_checkers(a: Missing, b: Missing | None) -> Missing: ...
def annotated(a: Annotated[int, "positive"], b: str | None) -> Annotated[bool, ""]: ...  # type: ignore[empty-body]
def nonsense(a, b): ...  # type: ignore[no-untyped-def]


nonsense.__annotations__ = {"a": "1 / 0", "b": print, "return": "x y"}


@pytest.mark.parametrize("function", [
    two, Methods().method, Methods.static, Methods(), wrapped, functools.partial(two),
    functools.partial(lambda x, a, b: True, 1), lambda a, b: True,
    lambda a, b="x", c=3: True, lambda *all: True, lambda a, *rest: True, with_context_first, with_context_between,
    with_context_by_name, with_all,
    with_a_name_for_type_checkers, annotated, nonsense, operator.eq, max, dict,
    functools.partial(with_context_by_name, c=2),
])
def test_a_function_that_takes_what_go_gives_fits(function: Callable[..., Any]) -> None:
    fit({"f": function}, declared("f", "int32", "string", result="bool"))


@pytest.mark.parametrize(("function", "why"), [
    (lambda: 1, "no parameter takes 'p0', 'p1'"),
    (lambda a: 1, "no parameter takes 'p1'"),
    (lambda a, b, c: 1, "'c' gets no argument"),
    (functools.partial(two, 1), "'b' is annotated str, and gets int (Go: int32); no parameter takes 'p1'"),
    (lambda a, *, b: 1, "keyword-only parameter, 'b'"),
    (functools.partial(two, a=1), "keyword-only parameter, 'b'"),
], ids=range(6))
def test_the_wrong_number_of_parameters_is_said(function: Callable[..., Any], why: str) -> None:
    assert why in refused(function, "int32", "string", result="bool")


def test_a_mistake_is_said_in_gos_words_and_pythons_with_both_places() -> None:
    def f(level: str, text: str) -> None: ...
    said = refused(f, "int32", "string")
    assert said.startswith("'level' is annotated str, and gets int (Go: int32). The function is test_a_mistake")
    assert f"f(level: str, text: str) -> None ({__file__}:" in said
    assert said.endswith("; the module imports func f(p0 int32, p1 string) (main.go:7), in Python: def f(p0: int, p1: "
                         "str) -> None")


@pytest.mark.parametrize(("go_type", "fits", "not_"), [
    ("bool", [bool, int, "bool", object, Any, bool | None], [str, float, bytes, "str"]),
    ("int32", [int, float, int | str, "int", "int | None", NewType("Level", int), Methods, "Methods"],
     [str, bytes, bool, None, "bytes", str | bytes]),
    ("uint64", [int], [bool]),
    ("pointer", [int], [str, bytes]),
    ("float64", [float, Celsius, "float"], [int, str, bool]),
    ("string", [str, bytes, str | bytes, "str | bytes", memoryview], [int, bool, float, "int"]),
])
def test_annotations_that_go_with_a_parameters_type(go_type: str, fits: list[object], not_: list[object]) -> None:
    def f(value): ...  # type: ignore[no-untyped-def]
    for annotation in fits:
        f.__annotations__ = {"value": annotation}
        fit({"f": f}, declared("f", go_type))
    for annotation in not_:
        f.__annotations__ = {"value": annotation}
        assert "'value' is annotated " in refused(f, go_type)


@pytest.mark.parametrize(("result", "fits", "not_"), [
    ("bool", [bool, Any, bool | None, "bool"], [int, str, None]),
    ("int64", [int, int | None, "int"], [bool, float, str, None, "None"]),
    ("pointer", [int], [bytes]),
    ("float32", [float, int], [bool, str]),
    (None, [None, int, str, Any], []),
])
def test_annotations_that_go_with_a_result(result: str | None, fits: list[object], not_: list[object]) -> None:
    def f(): ...  # type: ignore[no-untyped-def]
    for annotation in fits:
        f.__annotations__ = {"return": annotation}
        fit({"f": f}, declared("f", result=result))
    for annotation in not_:
        f.__annotations__ = {"return": annotation}
        assert "and must return " in refused(f, result=result)


def test_where_only_webassemblys_types_are_known_annotations_say_what_they_mean() -> None:
    def f(a: str, b: bool, c: int, d: bytes, e: float) -> bool: ...  # type: ignore[empty-body]
    fit({"f": f}, declared("f", "string", "bool", "int64", "string", "float32", result="bool"), known=False)


def test_where_only_webassemblys_types_are_known_what_does_not_go_is_said() -> None:
    def text(a: str) -> None: ...
    def whole(a: int) -> None: ...
    assert "'a' is annotated str, and gets int" in refused(text, "int32", known=False)
    assert "'a' is annotated str, and gets float" in refused(text, "float64", known=False)
    assert "'a' is annotated int, and gets float" in refused(whole, "float32", known=False)
    assert "a function of the WebAssembly type (i32 i32) -> (), in Python: def f(arg0: int, arg1: int) -> None" in refused(whole, "string", known=False)
    assert "'a' is annotated int, and gets float (f32)" in refused(whole, "float32", known=False)
    def answers() -> str: ...  # type: ignore[empty-body]

    assert "it returns str, and must return an int from -2147483648 to 2147483647 (i32)" in refused(answers, result="int32", known=False)
    fit({"f": lambda a, b: None}, declared("f", "string"), known=False)


def test_a_declaration_of_which_a_type_is_not_known_is_shown_and_not_relied_on() -> None:
    def f(duration: int) -> None: ...
    fit({"f": f}, declared("f", "?"))
    assert "the module imports func f(p0 ?) (main.go:7) (i64) -> ()" in refused(lambda: None, "?")


def test_two_packages_may_declare_one_import_and_annotations_decide_where_they_differ() -> None:
    as_string, as_pointer = declared("f", "string"), declared("f", "pointer", "uint32")
    def text(a: str) -> None: ...
    def pointer(a: int, n: int) -> None: ...
    for function in (text, pointer):
        fit({"f": function}, as_string, as_pointer)
    with pytest.raises(ModuleError, match=r"imports env\.f with two types, \(i32 i32\) -> \(\) and \(i64\) -> \(\)"):
        fit({"f": text}, as_string, declared("f", "int64"))


@pytest.mark.parametrize("function", [Methods().later, Later(), functools.partial(Methods().later)],
                         ids=["method", "object", "partial"])
def test_a_coroutine_function_is_refused_with_what_to_do(function: Callable[..., Any]) -> None:
    said = refused(function, "int32", "string", result="bool")
    assert "is a coroutine function; the module cannot wait for a coroutine in the middle of a host function" in said
    assert "a handler (guest.Call), which may be a coroutine" in said


def test_missing_functions_are_a_module_error_that_says_how_to_give_them() -> None:
    with pytest.raises(ModuleError) as raised:
        fit({"g": print}, declared("f", "int32", "string", result="bool"), declared("g"), declared("h-i"))
    assert str(raised.value).split("\n  ") == [
        "app.wasm: the module imports functions that are not provided:",
        "env.f is missing: func f(p0 int32, p1 string) bool (main.go:7), in Python: def f(p0: int, p1: str) -> bool",
        "env.h-i is missing: func h-i() (main.go:7), in Python: def h-i() -> None",
        'Functions come from Python: gothreads.open(..., host={"env": {"f": function}}); on the command line: --python '
        'FILE',
    ]


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(MisuseError) as raised:
        fit({"wrong": lambda: 1, "extra": print, "fine": print}, declared("wrong", "int32"), declared("fine"),
            declared("missing"))
    said = str(raised.value).split("\n  ")
    assert [line.partition(" ")[0] for line in said[1:]] == ["env.wrong:", "env.extra", "env.missing", "Functions"]
    assert said[2] == "env.extra is given, but the module does not import it; it imports: env.fine, env.missing, env.wrong"


def test_functions_that_are_not_imported_are_one_line() -> None:
    with pytest.raises(MisuseError) as raised:
        fit({"log": print, "back": print})
    assert str(raised.value).split("\n  ")[1:] == ["env.log, env.back are given, but the module does not import them; "
                                                   "it imports: nothing"]


def test_what_go_declares_and_never_calls_may_be_given_and_need_not() -> None:
    unused = declared("unused", "int32")
    for given in ({}, {("env", "unused"): print}):
        HostImports("app.wasm", Module(), (unused,), given, lambda *_: False)


@pytest.mark.parametrize(("host", "said"), [
    ({"gothreads": {"ncpu": print}}, r"gothreads\.ncpu cannot be given.*Import from another, such as env"),
    ({"wasi_snapshot_preview1": {"fd_read": print}}, r"fd_read cannot be given"),
    ({"env": print}, "host must be a gothreads.Host, or a dict such as"),
    ([("env", "log", print)], "host must be a gothreads.Host, or a dict such as"),
    ({"env": {"log": 3}}, r"host function env\.log must be callable, not 3"),
    ({"env": {3: print}}, "names that are str"),
])
def test_what_open_does_not_take_is_said(host: Any, said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        given_functions(host)


def test_functions_are_collected_with_a_decorator() -> None:
    host = gothreads.Host()

    @host.function("env")
    def log(text: str) -> None: ...

    @host.function("env", name="max")
    @host.function("math", name="largest")
    def greatest(a: int, b: int) -> int:
        return max(a, b)
    assert greatest(1, 2) == 2
    assert given_functions(host) == {("env", "log"): log, ("env", "max"): greatest, ("math", "largest"): greatest}
    assert given_functions(None) == {}
    assert repr(host) == "<gothreads.Host functions: env.log, env.max, math.largest; handlers: none>"
    with pytest.raises(MisuseError, match=r"there is a host function env\.log already"):
        host.function("env")(log)
    with pytest.raises(MisuseError, match=r'@host\.function\("env"\)'):
        host.function(log)  # type: ignore[arg-type]
    with pytest.raises(MisuseError, match="has no name of its own"):
        host.function("env")(functools.partial(log))
