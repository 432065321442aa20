"""What Python implements for a module: //gothreads:import (tests/modules/imports)."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.cli.main import main
from gothreads.runtime.module_file import load
from gothreads.typed import lending
from gothreads.typed.imports import implement
from gothreads.typed.schema import read_schema
from tests.support.modules import MODELS, built, opened
from tests.support.waiting import PATIENCE, wait_until


class Prices:
    """What the module's Prices is."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def price(self, item: Any) -> float:
        return {"a": 2.0, "b": 3}[item.name] * self.factor

    def total(self, *prices: float) -> tuple[float, int]:
        return sum(prices), len(prices)

    def url_of(self, name: str) -> str | None:
        return f"/{name}" if name else None


def notify(text: str, data: bytes) -> None:
    if text:
        raise ConnectionError(text, data)


def clock() -> int:
    return 7


def given(**others: Any) -> dict[str, Any]:
    return {"prices": Prices(), "notify_all": notify, "clock": clock, **others}


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("imports", imports=given()) as running:
        yield running


def check(app: Any) -> None:
    assert app.begun()
    assert app.cost([{"name": "a", "count": 2}, {"name": "b", "count": 10}]) == 34.0
    assert app.cost([]) == 0.0
    assert (app.url_of("x"), app.url_of("")) == ("/x", None)
    assert app.clock() == 7
    with pytest.raises(ConnectionError) as raised:
        app.notify("down", b"\0")
    assert raised.value.args == ("down", b"\0")
    with pytest.raises(KeyError) as missing:
        app.submit("cost", [{"name": "c"}]).result(60)
    assert missing.value.args == ("c",)


@pytest.mark.parametrize("model", [model for model in MODELS if model != "wasi-threads"])
def test_every_model_calls_what_is_given(model: str) -> None:
    app: Any
    with opened("imports", model=model, imports=given(prices=Prices)) as app:
        check(app)


def test_main_calls_them_too(app: Any) -> None:
    wait_until(lambda: app.ticks() == 1)


def test_a_supervised_module_has_them_after_its_end() -> None:
    made: list[Prices] = []

    class Counted(Prices):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
    app: Any
    with gothreads.supervise(built("imports"), imports=given(prices=Counted)) as app:
        check(app)
        with pytest.raises(gothreads.GuestExit):
            app.functions.exit(3)
        check(app)
    assert len(made) == 2  # one for each instance


def test_coroutine_functions_implement_them() -> None:
    class Slow(Prices):
        waiting, all_wait = 0, asyncio.Event()

        async def price(self, item: Any) -> float:  # type: ignore[override]
            self.waiting += 1
            if self.waiting == 500:
                self.all_wait.set()
            await self.all_wait.wait()
            return 1.0
    app: Any
    with opened("imports", imports=given(prices=Slow())) as app:
        assert app.cost([{"count": 1}] * 500) == 500.0


def test_python_and_go_call_each_other(app: Any) -> None:
    class Nested(Prices):
        def price(self, item: Any) -> float:
            return inner.cost([{"name": "a", "count": item.count}]) if item.name == "nested" else super().price(item)
    inner: Any
    with opened("imports", imports=given(prices=Nested())) as inner:
        assert inner.cost([{"name": "nested", "count": 3}]) == 18.0


def test_the_context_ends_a_wait() -> None:
    leave, entered = threading.Event(), threading.Event()

    class Stuck(Prices):
        def price(self, item: Any) -> float:
            entered.set()
            leave.wait(PATIENCE)
            return 1.0
    app: Any
    with opened("imports", imports=given(prices=Stuck())) as app:
        future = app.submit("cost", [{"name": "a"}], timeout=60)
        assert entered.wait(PATIENCE)
        future.cancel()
        assert app.add(1, 2) == 3
        leave.set()


def test_an_exception_without_an_error_in_go_ends_the_call() -> None:
    def broken() -> int:
        if ready.is_set():
            raise OverflowError("no time left")
        return 1
    ready = threading.Event()
    app: Any
    with opened("imports", imports=given(clock=broken)) as app:
        wait_until(lambda: app.ticks() == 1)
        ready.set()
        with pytest.raises(OverflowError, match="no time left"):
            app.clock()
        assert app.add(1, 2) == 3


def test_in_main_such_an_exception_is_a_panic() -> None:
    def broken() -> int:
        raise OverflowError("no time left")

    def run() -> None:
        app: Any
        with opened("imports", imports=given(clock=broken)) as app:
            wait_until(lambda: app.state is not gothreads.State.RUNNING)
            app.add(1, 2)
    with pytest.raises(gothreads.GuestError, match=r"clock: OverflowError: no time left.*has no error result"):
        run()


def test_a_result_of_another_type_is_an_error_in_go() -> None:
    ready = threading.Event()

    class Wrong(Prices):
        def price(self, item):  # type: ignore[no-untyped-def]
            return "x"

        def total(self, *prices):  # type: ignore[no-untyped-def]
            return 1.0
    app: Any
    with opened("imports", imports=given(prices=Wrong(), clock=lambda: "x" if ready.is_set() else 0)) as app:
        with pytest.raises(gothreads.GoError, match=r"^prices.price: its result: expected float, got str$"):
            app.cost([{"name": "a"}])
        with pytest.raises(gothreads.GoError, match=r"^prices.total: its result: expected list, got float$"):
            app.cost([])
        wait_until(lambda: app.ticks() == 1)
        ready.set()
        with pytest.raises(gothreads.GoError, match=r"^clock: its result: expected int, got str$"):
            app.clock()


def test_a_host_implements_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "host.py"
    file.write_text("""
import gothreads

host = gothreads.Host()

@host.implements("prices")
class Prices:
    def price(self, item): return 2.0
    def total(self, *prices): return sum(prices), len(prices)
    def url_of(self, name): return None

@host.implements("notify_all")
def notify(text, data): print(text)

host.implements("clock")(lambda: 5)
""")
    assert main(["call", "--python", str(file), str(built("imports")), "cost", '[{"name": "a", "count": 3}]']) == 0
    assert capsys.readouterr().out == "6.0\n"
    host = gothreads.Host()
    host.implements("clock")(clock)
    assert repr(host) == "<gothreads.Host functions: none; handlers: none; imports: clock>"
    with pytest.raises(gothreads.MisuseError, match="^there is an implementation of clock already: "):
        host.implements("clock")(clock)
    with pytest.raises(gothreads.MisuseError, match="^imports and host both have: clock$"):
        gothreads.open(built("imports"), host=host, imports=given())


class Less:
    """Prices without one method, and others that do not fit."""

    def price(self, item: str) -> str:
        return ""

    def total(self, prices: list[float]) -> float:
        return 0.0


def misfits(**imports: Any) -> str:
    with pytest.raises(gothreads.MisuseError) as error:
        gothreads.open(built("imports"), imports=imports)
    return str(error.value)


def test_what_is_missing_or_does_not_fit_is_reported_before_anything_runs() -> None:
    lines = misfits(prices=Less, notify_all=lambda text: None, other=3).splitlines()
    assert lines[0] == f"{built('imports').name}: the imports do not match the module's (//gothreads:import):"
    price, total, url_of, notify_all, other, missing, hint = (line.strip() for line in lines[1:])
    assert price.startswith("prices.price must be price(item: Item) -> float, for Go's Price(ctx context.Context, item "
                            "main.Item) (float64, error): its item gets Item: Less.price(item: str) -> str (")
    assert total.startswith("prices.total must be total(*prices: float) -> tuple[float, int], for Go's Total(prices "
                            "...float64) (sum float64, n int, err error): too many positional arguments: Less.total(")
    assert url_of == ("prices.url_of must be url_of(name: str) -> str | None, for Go's URLOf(name string) *string: it is "
                      "missing")
    assert notify_all.startswith("notify_all must be notify_all(text: str, data: bytes) -> None, for Go's func(text string, "
                                 "data []byte) error: too many positional arguments: ")
    assert other == "other is given, but the module does not import it; it imports: clock, notify_all, prices"
    assert missing == "clock is missing: var clock func() int64"
    assert hint == 'They come from Python: gothreads.open(..., imports={"clock": …}); on the command line: --python FILE'


def fitting(function: Callable[..., Any], name: str) -> str | None:
    """What is said of a method of Prices."""
    prices = type("Own", (Prices,), {name: function})
    typed = load(built("imports")).metadata
    assert typed is not None
    assert typed.typed is not None
    try:
        implement("m", typed.typed, given(prices=prices), lending.Loan())
    except gothreads.MisuseError as error:
        said = str(error).splitlines()[1]
        return said.partition("error): ")[2] or said.partition("*string: ")[2]
    return None


class Fits:
    """Functions that may implement a method of Prices: its name follows the number."""

    def a_price(self, item: object) -> int: ...  # type: ignore[empty-body]
    def b_price(self, item: Any, more: int = 0) -> Any: ...
    def c_price(self, item: "NotThere") -> "NotThere": ...  # type: ignore[name-defined]  # noqa: F821, UP037
    async def d_price(self, item: Any) -> float: ...  # type: ignore[empty-body]
    def e_url_of(self, name: str | int) -> str: ...  # type: ignore[empty-body]
    def f_url_of(self, name: Sequence[str]) -> None: ...
    def g_total(self, *prices: float) -> tuple[float, int]: ...  # type: ignore[empty-body]
    def h_total(self, *prices: float) -> tuple[float, ...]: ...  # type: ignore[empty-body]
    def i_total(self, *prices: float) -> Awaitable[tuple[float, int]]: ...  # type: ignore[empty-body]


class DoesNotFit:
    """Functions that cannot."""

    def a_price(self, item: dict[str, int]) -> float: ...  # type: ignore[empty-body]
    def b_price(self, item: Any) -> float | None: ...
    def c_price(self, item: Any) -> bool: ...  # type: ignore[empty-body]
    def d_price(self) -> float: ...  # type: ignore[empty-body]
    def e_url_of(self, name: int) -> str: ...  # type: ignore[empty-body]
    def f_url_of(self, name: str) -> bytes | None: ...
    def g_total(self, *prices: float) -> tuple[float, str]: ...  # type: ignore[empty-body]
    def h_total(self, *prices: float) -> float: ...  # type: ignore[empty-body]


def said_of(functions: type) -> list[str | None]:
    return [fitting(function, name.partition("_")[2]) for name, function in vars(functions).items()
            if not name.startswith("_")]


def test_annotations_are_compared_as_far_as_they_are_known() -> None:
    assert said_of(Fits) == [None] * 9
    assert [said and said.partition(": ")[0] for said in said_of(DoesNotFit)] == [
        "its item gets Item", "it must return float", "it must return float", "too many positional arguments",
        "its name gets str", "it must return str | None", *["it must return tuple[float, int]"] * 2]


def test_a_class_that_cannot_be_made_and_options_of_other_kinds(tmp_path: Path) -> None:
    class Needs(Prices):
        def __init__(self, other: int) -> None: ...
    assert "prices: Needs() raised TypeError: " in misfits(**given(prices=Needs))
    assert "clock must be clock() -> int, for Go's func() int64: it is 3" in misfits(**given(clock=3))
    assert "prices.price must be price(item: Item) -> float" in misfits(**given(prices=None))
    with pytest.raises(gothreads.MisuseError, match=r"^imports must be a dict such as "):
        gothreads.open(built("imports"), imports=[Prices])  # type: ignore[arg-type]
    with pytest.raises(gothreads.MisuseError, match=r": imports are given \(clock\), but the module imports noth"):
        gothreads.open(built("calls"), imports={"clock": clock})


@pytest.mark.parametrize("change", [
    {"imports": None}, {"methods": []}, {"methods": [{}]}, {"name": "class"},
    {"params": [{"name": "a", "go": "", "doc": "", "type": ["rest", ["bool"]]},
                {"name": "b", "go": "", "doc": "", "type": ["bool"]}]},
    {"params": [{"name": "a", "go": "", "doc": "", "type": ["callable", [], []]}]},
    {"results": [["nothing"]]}, {"results": [["class", "Other"]]}, {"results": [["stream", ["bool"]]]}])
def test_a_damaged_description_is_an_error_of_the_module(change: dict[str, Any]) -> None:
    metadata = load(built("imports")).metadata
    assert metadata is not None
    changed: Any = json.loads(json.dumps(metadata.typed))
    for part in (changed, changed["imports"][0], changed["imports"][0]["methods"][0]):
        part.update((name, value) for name, value in change.items() if name in part and (
            name != "name" or part is changed["imports"][0]))
    with pytest.raises(gothreads.ModuleError, match=r"^the module's description of its typed functions is malformed: "):
        read_schema(changed)


def test_an_app_with_imports_can_be_pickled(app: Any) -> None:
    copy: Any
    with pickle.loads(pickle.dumps(app)) as copy:
        assert copy.clock() == 7
    with opened("imports", imports=given(clock=lambda: 1)) as other, \
            pytest.raises(gothreads.MisuseError, match=r"its option imports\['clock'\]=.* cannot be pickled"):
        pickle.dumps(other)


def test_inspect_shows_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(built("imports"))]) == 0
    out = capsys.readouterr().out
    assert """needs from Python: prices: var prices main.Prices
      price: Price(ctx context.Context, item main.Item) (float64, error)
      total: Total(prices ...float64) (sum float64, n int, err error)
      url_of: URLOf(name string) *string
needs from Python: notify_all: var notify func(text string, data []byte) error
needs from Python: clock: var clock func() int64
""" in out


def test_nothing_is_kept_after_an_app() -> None:
    before = len(lending._raised)
    app: Any
    with opened("imports", imports=given()) as app:
        with pytest.raises(ConnectionError):
            app.notify("down", b"")
        assert len(lending._raised) == before + 1
    wait_until(lambda: len(lending._raised) == before)

