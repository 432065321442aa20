"""The memory of large arguments (tests/modules/outlive): used again only after a function that has kept none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import gothreads
from tests.support.modules import MODELS, opened
from tests.support.waiting import PATIENCE, together

#: So many float64 are a large argument: more than slot.MostLent, in gothreads/guest.
SIZE = 100_000
LARGE = numpy.arange(float(SIZE))
ONES = numpy.ones(SIZE)
Arguments = Callable[[Any, str], tuple[Any, ...]]


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("outlive") as running:
        yield running


def table(types: Any, **fields: Any) -> Any:
    """A table whose numbers are ONES, except for these fields."""
    inner = types.Inner(z=fields.pop("z", ONES))
    others = {"name": "", "count": 3, "x": ONES, "y": ONES, "rows": [ONES, ONES], "raw": b"", "inner": inner}
    return types.Table(**others | fields)


#: Functions that keep the argument LARGE; how many arrays they get, and all arguments. name: a text that is written before
#: the array. Its length decides where in the message the array begins: one that is not aligned is copied.
KEEPING: dict[str, tuple[int, Arguments]] = {
    **dict.fromkeys(["keep_it", "keep_in_closure", "keep_in_goroutine", "keep_in_channel", "keep_by_interface",
                     "keep_in_object", "keep_by_variable", "keep_by_generic", "keep_by_panic", "keep_address"], (1, lambda types, name: (LARGE,))),
    "keep_rarely": (1, lambda types, name: (LARGE, True)),
    "keep_second": (2, lambda types, name: (ONES, LARGE)),
    "keep_any": (1, lambda types, name: ([name, LARGE],)),
    "keep_in_any": (2, lambda types, name: (ONES, {"y": [name, LARGE]})),
    "keep_entry": (1, lambda types, name: ({name: LARGE},)),
    "keep_field": (5, lambda types, name: (table(types, name=name, x=LARGE),)),
    "keep_raw": (6, lambda types, name: (table(types, name=name, raw=LARGE.tobytes()),)),
    "keep_row": (5, lambda types, name: (table(types, name=name, rows=[ONES, LARGE]),)),
    "keep_inner": (5, lambda types, name: (table(types, name=name, z=LARGE),)),
    "keep_by_pointer": (5, lambda types, name: (table(types, name=name, y=LARGE),)),
    "keep_of_many": (10, lambda types, name: ([table(types, name=name, z=LARGE), table(types)],)),
    "table_keep_mine": (4, lambda types, name: (table(types, name=name, rows=[LARGE]),)),
    **dict.fromkeys(["keep_bytes", "keep_text"], (1, lambda types, name: (LARGE.tobytes(),))),
}

#: Functions that keep nothing, and return an argument's address.
PASSING: dict[str, Arguments] = {
    **dict.fromkeys(["address", "address_in_context", "address_and_panic"], lambda types, name: (LARGE,)),
    "address_of_second": lambda types, name: (ONES, LARGE),
    "address_of_bytes": lambda types, name: (LARGE.tobytes(),),
}


def overwrite(app: Any, arrays: int = 1, *, more: int = -50) -> None:
    """Make calls with messages as large as those with so many arrays, or a little smaller, so that they fit there."""
    for _ in range(5):
        app.sum(numpy.zeros(SIZE * arrays + more))


@pytest.mark.parametrize("name", KEEPING)
def test_what_a_function_has_kept_does_not_change(app: Any, name: str) -> None:
    arrays, arguments = KEEPING[name]
    for length in range(8):
        overwrite(app, arrays, more=50)  # so there is memory that the call may get
        getattr(app, name)(*arguments(app.types, "a" * length))
        overwrite(app, arrays)
        if length % 2:
            app.collect()
        overwrite(app, arrays)
        assert numpy.array_equal(numpy.asarray(app.held()), LARGE)


def test_an_argument_that_is_returned_is_that_of_the_call(app: Any) -> None:
    overwrite(app, more=50)
    for number in range(50):
        assert set(app.same(numpy.full(SIZE, number))) == {number}
        app.sum(ONES)


@pytest.mark.parametrize("name", ["items", "sent"])
def test_an_argument_from_which_items_come_does_not_change(app: Any, name: str) -> None:
    overwrite(app, more=50)
    items = getattr(app, name)(LARGE)
    begin = [next(items) for _ in range(10)]
    overwrite(app)
    assert begin + list(items) == LARGE.tolist()


@pytest.mark.parametrize("name", PASSING)
def test_memory_is_used_again_that_no_function_has_kept(app: Any, name: str) -> None:
    """Not if the collector comes between two calls, which it rarely does."""
    arguments = PASSING[name](app.types, "")
    addresses = [getattr(app, name)(*arguments) for _ in range(10)]
    assert len(set(addresses)) < 5


def test_memory_is_used_again_that_was_only_lent_to_a_handler(app: Any) -> None:
    payload = LARGE.tobytes()
    assert len({app.request("address", payload) for _ in range(10)}) < 5
    assert app.request("keep", payload) == b""
    for number in range(10):
        assert set(app.request("echo", bytes([number]) * (len(payload) - 20))) == {number}
    assert numpy.array_equal(numpy.asarray(app.held()), LARGE)


@pytest.mark.parametrize("model", [model for model in MODELS if model != "wasi-threads"])
def test_every_model_uses_memory_again(model: str) -> None:
    app: Any
    with opened("outlive", model=model) as app:
        assert len({app.address(LARGE) for _ in range(10)}) < 5
        app.keep_it(LARGE)
        overwrite(app)
        assert numpy.array_equal(numpy.asarray(app.held()), LARGE)


def test_memory_that_may_be_used_again_is_free_for_the_collector(app: Any) -> None:
    before = app.live()
    app.sum(numpy.zeros(50 * SIZE))
    assert app.live() < before + 10 * SIZE


def test_a_small_argument_that_is_kept_keeps_little_memory(app: Any) -> None:
    app.keep_it(LARGE)
    before = app.live()
    app.sum(numpy.zeros(50 * SIZE))
    app.keep_it(LARGE)
    assert app.live() < before + 10 * SIZE


def test_a_call_whose_caller_has_gone_still_has_its_argument(app: Any) -> None:
    overwrite(app, more=50)
    seconds = 0.05
    while not app.late():  # on a loaded machine, the time may be up before the call has begun: then it is not made
        with pytest.raises(gothreads.CallTimeout):
            app.sum_late(LARGE, timeout=seconds)
        seconds *= 2
    overwrite(app)
    for _ in range(10):
        app.sum(numpy.zeros(SIZE), timeout=60)
    assert app.open(timeout=PATIENCE) == LARGE.sum()


def test_a_call_within_a_call_has_memory_of_its_own(app: Any) -> None:
    overwrite(app, more=50)
    assert app.sum_after(LARGE, lambda: overwrite(app)) == LARGE.sum()
    assert app.sum_after(LARGE, lambda: app.keep_it(ONES)) == LARGE.sum()
    overwrite(app)
    assert numpy.array_equal(numpy.asarray(app.held()), ONES)


def test_a_refused_call_changes_nothing_that_is_kept(app: Any) -> None:
    app.keep_it(LARGE)
    for _ in range(10):
        with pytest.raises(gothreads.ArgumentError):
            app.sum(numpy.zeros(SIZE, dtype=complex))
        with pytest.raises(gothreads.ArgumentError):
            app.keep_rarely(numpy.zeros(SIZE), 5)
    assert numpy.array_equal(numpy.asarray(app.held()), LARGE)


def test_calls_in_many_threads_have_memory_of_their_own(app: Any) -> None:
    def call(number: int) -> Callable[[], None]:
        given = numpy.full(SIZE + number * 1000, float(number))

        def run() -> None:
            for turn in range(40):
                assert app.sum(given) == given.sum()
                assert set(app.same(given)) == {number}
                if turn % 8 == number:
                    app.collect()
        return run
    together(*map(call, range(6)))
