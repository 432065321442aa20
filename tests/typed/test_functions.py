"""Typed functions (tests/modules/typed): arguments, results, errors, and their classes."""

from __future__ import annotations

import array
import asyncio
import copy
import datetime
import functools
import gc
import inspect
import pickle
import struct
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy
import pytest

import gothreads
from gothreads.bridge.buffers import Buffers
from tests.support.modules import MODELS, ROOT, built, opened
from tests.support.tracebacks import own_frames
from tests.support.waiting import PATIENCE, wait_until


class _Lines:
    """As a table: its repr has lines."""

    def __repr__(self) -> str:
        return "one\n  two"


NOW = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


@pytest.fixture(scope="module")
def types(app: Any) -> Any:
    return app.types


@pytest.mark.parametrize("model", [model for model in MODELS if model != "wasi-threads"])
def test_every_model_has_the_same_functions(model: str) -> None:
    app: Any
    with opened("typed", model=model) as app:
        assert app.add(2, 3) == app.functions.add(a=2, b=3) == app.submit("add", 2, 3).result(60) == 5
        assert app.echo_options(app.types.Options(degree=3)) == app.types.Options(degree=3)
        assert app.sum(numpy.arange(100_000.0)) == 4_999_950_000.0
        assert list(app.range(100_000)) == [float(number) for number in range(100_000)]
        assert list(app.map("add", [1, 2], [3, 4])) == [4, 6]
        assert asyncio.run(app.add_async(3, 4)) == asyncio.run(app.call_async("add", 3, 4)) == 7
        with pytest.raises(app.types.ErrZero, match="^division by zero$"):
            app.divide(1, 0)
        with pytest.raises(gothreads.ArgumentError, match=r"^add: b: expected int, got str$"):
            app.submit("add", 2, "x").result(60)


def test_an_error_is_freed_at_once_with_what_the_call_was_given(types: Any) -> None:
    app: Any
    with opened("typed") as app:
        calls: list[Callable[[], object]] = [
            lambda: app.fail("zero"), lambda: app.fail("zero", timeout=60), lambda: list(app.scan("a", "")),
            lambda: app.add(1, "x"), lambda: app.request("no such handler")]
        gc.disable()
        try:
            for call in calls:
                try:
                    call()
                except gothreads.GothreadsError as error:
                    raised = weakref.ref(error)
                assert raised() is None, call
        finally:
            gc.enable()


def test_a_traceback_shows_at_most_one_function_of_gothreads(types: Any) -> None:
    app: Any
    with opened("typed") as app:
        calls: list[Callable[[], object]] = [
            lambda: app.add(2), lambda: app.add(2, "x"), lambda: app.add(2, object()), lambda: app.divide(1, 0),
            lambda: app.pause(60.0, timeout=0.01), lambda: app.count("x"), lambda: app.apply([1.0], 5),
            lambda: app.submit("divide", 1, 0).result(60), lambda: app.add.submit(2),
            lambda: asyncio.run(app.divide_async(1, 0)), lambda: app.functions.exit(7), lambda: app.add(2, 3)]
        for call in calls:
            with pytest.raises(gothreads.GothreadsError) as failed:
                call()
            assert len(own_frames(failed.value)) <= 1, (failed.value, own_frames(failed.value))
    with pytest.raises(gothreads.ModuleError) as failed:
        gothreads.open("nowhere.wasm")
    assert not own_frames(failed.value)


def test_a_traceback_keeps_the_functions_of_the_program(app: Any) -> None:
    def fails(x: float) -> float:
        return float(app.divide(int(x), 0)[0])

    with pytest.raises(app.types.ErrZero) as failed:
        app.apply([1.0], fails)
    assert "fails" in [frame.f_code.co_name for frame, _ in traceback.walk_tb(failed.value.__traceback__)]
    assert len(own_frames(failed.value)) <= 2  # one for each call
    with pytest.raises(ZeroDivisionError) as raised:
        app.apply([0.0], lambda x: 1 / x)
    assert len(own_frames(raised.value)) <= 1


def test_a_misspelt_type_is_told_of_the_one_that_was_meant(app: Any) -> None:
    with pytest.raises(AttributeError, match=r"^the module has no type 'ErrZeroo'\. Did you mean ErrZero\?$"):
        getattr(app.types, "ErrZeroo")  # noqa: B009
    assert not hasattr(app.types, "__wrapped__")


def test_the_traceback_of_ctrl_c_shows_no_function_of_gothreads() -> None:
    program = """
import os, signal, sys, threading
import gothreads
from tests.support.tracebacks import own_frames

with gothreads.open(sys.argv[1]) as app:
    app.add(2, 3)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        app.pause(60.0)
    except KeyboardInterrupt as error:
        print(len(own_frames(error)))
"""
    done = subprocess.run([sys.executable, "-c", program, built("typed")], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_a_path_that_a_functions_error_says_is_missing_is_told_how_to_mount(caplog: pytest.LogCaptureFixture) -> None:
    app: Any
    calls: list[Callable[[], object]] = [lambda: app.size("/nowhere/a"), lambda: app.size("/nowhere/b", timeout=60),
                                         lambda: app.submit("size", "/nowhere/c").result(60)]
    for call in calls:
        caplog.clear()
        with opened("typed") as app, pytest.raises(gothreads.GoError, match="No such file or directory"):
            call()
        assert ["no mount covers /nowhere/" in record.getMessage() for record in caplog.records] == [True]


def test_a_supervised_module_has_them_too_and_after_its_end() -> None:
    app: Any
    with gothreads.supervise(built("typed")) as app:
        assert app.add(2, 3) == app.submit("add", 2, 3).result(60) == asyncio.run(app.add_async(2, 3)) == 5
        before = app.types.Options(degree=3)
        with pytest.raises(gothreads.GuestExit):
            app.functions.exit(3)
        assert app.echo_options(before) == before
        assert app.sum(numpy.arange(100_000.0), timeout=60) == 4_999_950_000.0
        with pytest.raises(app.types.ErrZero):
            app.divide(1, 0)


def test_results_are_none_a_value_or_a_tuple(app: Any) -> None:
    assert app.nothing() is None
    assert app.shout("hé") == "hé!"
    assert app.divide(7, 2) == (3, 1)
    assert app.fail("") is None


def test_parameters_have_names_and_the_last_may_be_variadic(app: Any) -> None:
    assert app.add(1, b=2) == 3
    assert app.join("-") == ""
    assert app.join("-", "a", "b") == "a-b"
    assert str(inspect.signature(app.add)) == "(a: int, b: int) -> int"
    assert str(inspect.signature(app.join)) == "(separator: str, *words: str) -> str"
    assert app.echo_options.__doc__ == "EchoOptions returns the options.\n\nfunc EchoOptions(o Options) Options"


@pytest.mark.parametrize(("args", "named", "why"), [
    ((1,), {}, r"^add has no value for 'b': add\("),
    ((1, 2, 3), {}, r"^add takes 2 arguments, 3 given: add\("),
    ((1,), {"a": 2}, r"^add has two values for 'a', in order and by name: "),
    ((1,), {"c": 2}, r"^add has no parameter 'c': "),
])
def test_arguments_that_do_not_fit_the_parameters_are_refused(app: Any, args: tuple[int, ...], named: dict[str, int],
                                                              why: str) -> None:
    with pytest.raises(gothreads.ArgumentError, match=why):
        app.add(*args, **named)


@pytest.mark.parametrize(("name", "args", "why"), [
    ("add", (1, "x"), "^add: b: expected int, got str$"),
    ("add", (1, 2.0), "^add: b: expected int, got float$"),
    ("add", (1, True), "^add: b: expected int, got bool$"),
    ("add", (1, None), "^add: b: expected int, got None$"),
    ("add", (1, 1 << 63), "^add: b: expected an int from -9223372036854775808 to 9223372036854775807, got 922337"),
    ("add", (1, 1 << 70), "^add: b: expected an int of 64 bits, got 1180591620717411303424$"),
    ("shout", ("\ud800",), "^shout: s: expected valid Unicode"),
    ("shout", (b"x",), "^shout: s: expected str, got bytes$"),
    ("sum", (["x"],), r"^sum: x\[0\]: expected float, got str$"),
    ("sum", (b"abc",), "^sum: x: expected a list or an array of numbers, got bytes$"),
    ("sum", (object(),), "^sum: x: Go has no value for <object object"),
    ("sum", (numpy.array(["a"]),), r"^sum: x\[0\]: expected float, got str$"),
    ("sum", (numpy.array(["2024-02-29"], "M8[ns]"),), r"^sum: x\[0\]: expected float, got datetime$"),
    ("echo_any", (_Lines(),), "^echo_any: v: Go has no value for one two$"),
    ("echo_options", ({"degree": "x"},), "^echo_options: o.degree: expected int, got str$"),
    ("echo_options", ({"deg": 1},), '^echo_options: o: Options has no field "deg"; it has: degree, rate, name, robust, '
                                    "n$"),
    ("echo_options", ({"n": 70_000},), "^echo_options: o.n: expected an int from 0 to 65535, got 70000$"),
    ("echo_options", ((1, 2),), r"^echo_options: o: expected Options, got tuple \(a dict is taken, too; "
     r"those of a DataFrame are df.to_dict\(\"records\"\)\)$"),
    ("echo_tree", ({"more": [{}, {"left": {"value": []}}]},), r"^echo_tree: t.more\[1\].left.value: expected int, got"),
    ("echo_tree", ({"by_key": {"k": {"value": object()}}},), r'^echo_tree: t\.by_key\["k"\]\.value: Go has no value for <object'),
    ("echo_time", (NOW.replace(tzinfo=None), datetime.timedelta()),
     r"^echo_time: t: expected a datetime with a time zone, got 2024-02-29T12:30:15.123456 without one \(value.astim"),
    ("echo_time", (numpy.datetime64("2024-02-29T12:30:15", "ns"), datetime.timedelta()),
     "^echo_time: t: expected a datetime with a time zone, got 2024-02-29T12:30:15 without one "
     r'\(value\.astype\("M8\[us\]"\)\.item\(\)\.replace\(tzinfo=datetime\.UTC\)\)$'),
    ("echo_time", (NOW.date(), datetime.timedelta()),
     r"^echo_time: t: expected a datetime .*, got the date 2024-02-29 \(datetime\.combine\(.*\) is its beginning\)$"),
    ("echo_time", ("now", datetime.timedelta()), r"^echo_time: t: expected a datetime with a time zone, got the text 'now' "
     r"\(datetime\.fromisoformat\(value\) makes a datetime; "),
    ("echo_time", ("2024-02-29", datetime.timedelta()), "^echo_time: t: .*, got the text '2024-02-29' "),
    ("echo_time", (NOW, datetime.timedelta(days=200_000)), "^echo_time: d: expected a timedelta that Go's time.Durat"),
    ("echo_any", ({1: 2},), "^echo_any: v: a key: expected str, got the int 1$"),
    ("echo_tree", ({"by_key": {"k": {}, 1: {}}},), r"^echo_tree: t\.by_key: a key: expected str, got the int 1$"),
    ("echo_tree", ({"by_key": (1, 2)},), r"^echo_tree: t\.by_key: expected dict, got tuple$"),
])
def test_an_argument_of_another_type_is_refused_with_the_path_to_it(app: Any, name: str, args: tuple[Any, ...],
                                                                    why: str) -> None:
    with pytest.raises(gothreads.ArgumentError, match=why):
        app.functions[name](*args)


@pytest.mark.parametrize(("name", "args", "why"), [
    ("echo_tree", ('{"by_key": pandas.Series({"a": {}})}',),
     "t.by_key: expected dict, got Series (values.to_dict())"),
    ("echo_tree", ('{"by_key": pandas.DataFrame({"v": [1.0]})}',),
     't.by_key: expected dict, got DataFrame (values.to_dict("list"))'),
    ("sum", ('pandas.DataFrame({"v": [1.0]})',), "x: expected Sequence[float], got DataFrame (one column is df['v'])"),
    ("echo_time", ('pandas.Timestamp("2024-02-29")', "datetime.timedelta()"),
     't: expected a datetime with a time zone, got 2024-02-29T00:00:00 without one (value.tz_localize("UTC"); of a '
     'Series, series.dt.tz_localize("UTC"))'),
])
def test_advice_fits_values_of_pandas(app: Any, name: str, args: tuple[str, ...], why: str) -> None:
    pandas = pytest.importorskip("pandas")
    values = [eval(arg, {"pandas": pandas, "datetime": datetime}) for arg in args]
    function = app.functions[name]
    for call in (function, functools.partial(function, timeout=60), lambda *args: function.submit(*args).result()):
        with pytest.raises(gothreads.ArgumentError) as caught:
            call(*values)
        assert str(caught.value) == f"{name}: {why}"


def test_an_object_of_another_class_is_refused(app: Any, types: Any) -> None:
    with pytest.raises(gothreads.ArgumentError, match="^echo_options: o: expected Options, got Point$"):
        app.echo_options(types.Point(x=1.0, y=2.0))


def test_values_that_are_nested_too_deeply_are_refused(app: Any, types: Any) -> None:
    tree = None
    for _ in range(600):
        tree = types.Tree(left=tree)
    with pytest.raises(gothreads.ArgumentError, match=r"^echo_tree: t\.left.*….*: it is nested too deeply: at most 500"):
        app.echo_tree(tree)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(gothreads.ArgumentError, match="nested too deeply"):
        app.echo_any(endless)
    with pytest.raises(gothreads.GoError, match="nested too deeply to be passed on, or in a cycle"):
        app.cycle()
    with pytest.raises(gothreads.GoError, match="an `any` holds a chan int"):
        app.odd()


def test_large_arrays_of_all_numbers_come_back_as_arrays(app: Any) -> None:
    sent = [array.array(code, [number % 100 for number in range(100_000)]) for code in "dfqbH"]
    back = app.echo_numbers(*sent, bytes(100_000))
    assert back == (*sent, bytes(100_000))
    assert [numbers.typecode for numbers in back[:-1]] == list("dfqbH")


@pytest.mark.parametrize(("kind", "address", "length", "error"), [
    (0, 0, 8, gothreads.HandlerError), (11, 0, 8, gothreads.HandlerError), ((1 << 32) - 1, 0, 8, gothreads.HandlerError),
    (10, 0, 7, gothreads.HandlerError), (10, (1 << 32) - 8, 16, gothreads.MemoryAccessError)])
def test_a_module_whose_answer_refers_to_no_numbers_is_refused(app: Any, kind: int, address: int, length: int,
                                                               error: type[Exception]) -> None:
    with pytest.raises(error, match="^the module's answer is "):
        Buffers(lambda *_: None, app.memory)._array(kind, address, length)  # type: ignore[arg-type]


def test_constants_that_need_64_bits_are_members(app: Any, types: Any) -> None:
    back = app.echo(types.Everything(type=types.Mask.ALL)).type
    assert (back, back is types.Mask((1 << 64) - 1), repr(back)) == (types.Mask.ALL, True, f"<Mask.ALL: {(1 << 64) - 1}>")
    assert list(types.Mask) == [1, (1 << 64) - 1]
    assert app.echo({"type": (1 << 64) - 2}).type == (1 << 64) - 2


def test_fields_have_gos_zero_values(app: Any, types: Any) -> None:
    zero = types.Everything()
    assert app.echo(zero) == zero
    assert app.echo({}) == zero
    assert (zero.color, zero.level, zero.fixed, zero.digest) == (types.Color.RED, "", array.array("i", [0] * 3), bytes(4))


def test_a_struct_has_the_documentation_and_names_of_go(types: Any) -> None:
    assert types.Options.__doc__ == (
        "Options say how to fit.\n\ndegree (int): Degree is the degree of the polynomial.\nrate (float64): Rate is a float."
        "\nname (string)\nrobust (bool)\nn (uint16)")
    assert {"id", "note"} < {*types.Everything.__struct_fields__}  # of an embedded struct
    assert "class_" not in types.Everything.__struct_fields__ or types.Everything().class_ == ""


def test_a_struct_may_be_given_as_a_dictionary(app: Any, types: Any) -> None:
    assert app.echo_options({"degree": 3, "n": 1}) == types.Options(degree=3, n=1)
    assert app.distance({"x": 3}, types.Point(y=4)) == 5.0


def test_fields_may_be_given_in_gos_order(app: Any, types: Any) -> None:
    assert app.distance(types.Point(3, 0), types.Point(0, 4)) == 5.0
    assert types.Options(3, 0.5, robust=True) == types.Options(degree=3, rate=0.5, robust=True)
    match pickle.loads(pickle.dumps(types.Point(1, 2))):
        case types.Point(x, y):
            assert (x, y) == (1, 2)
    with pytest.raises(TypeError, match="positional"):
        types.Point(1, 2, 3)


def test_a_method_is_a_function_of_its_receiver(app: Any, types: Any) -> None:
    assert app.options_scaled(types.Options(degree=2), 3) == types.Options(degree=6)


def test_enumerations_are_open(app: Any, types: Any) -> None:
    assert [(color.name, color.value) for color in types.Color] == [("RED", 0), ("GREEN", 1), ("DARK_BLUE", 2)]
    sent = types.Everything(color=types.Color.DARK_BLUE, level=types.Level.HIGH, colors=[types.Color.GREEN, 77])
    back = app.echo(sent)
    assert (back.color, back.level) == (types.Color.DARK_BLUE, types.Level.HIGH)
    assert back.colors == [1, 77]
    assert isinstance(back.colors[1], types.Color)


def test_any_holds_values_as_json_has_them(app: Any) -> None:
    value = {"a": [1, -2, 2.5, None, True, "s", b"b", {"k": 1 << 63}], "t": NOW}
    assert app.echo_any(value) == value
    assert app.echo_any({1}) == [1]
    assert app.echo_any(numpy.arange(3, dtype="int16")) == array.array("h", [0, 1, 2])


def test_times_and_durations_keep_their_microseconds(app: Any) -> None:
    for duration in (datetime.timedelta(days=-1, microseconds=5), datetime.timedelta(days=9, seconds=1),
                     datetime.timedelta()):
        assert app.echo_time(NOW, duration) == (NOW, duration)
    here = datetime.timezone(datetime.timedelta(hours=5))
    assert app.echo_time(NOW.astimezone(here), datetime.timedelta())[0] == NOW


def test_times_of_pandas_and_numpy_are_times(app: Any) -> None:
    pandas = import_module("pandas")  # takes a while
    day = datetime.timedelta(days=1)
    for duration in (pandas.Timedelta(day), numpy.timedelta64(1, "D"), numpy.timedelta64(24 * 3600 * 10**9, "ns")):
        assert app.echo_time(pandas.Timestamp(NOW), duration) == (NOW, day)
    assert app.echo_any(pandas.Timestamp(NOW).tz_convert("Asia/Tokyo")) == NOW
    for times in (pandas.DatetimeIndex([NOW, NOW + day]), pandas.Series([NOW, NOW + day])):
        assert app.echo_any(times) == [NOW, NOW + day]
    with pytest.raises(gothreads.ArgumentError, match="^echo_time: t: expected a datetime .*, got a missing value"):
        app.echo_time(pandas.NaT, day)


def test_missing_values_of_pandas_are_nil_pointers_or_refused_with_their_path(app: Any, types: Any) -> None:
    pandas = import_module("pandas")  # takes a while
    assert app.echo(types.Everything(number=pandas.NA)).number is None
    assert app.echo_any([pandas.NA, pandas.NaT, 1]) == [None, None, 1]
    missing = r"got a missing value \(NA or NaT of pandas\)$"
    calls: list[tuple[Callable[[], object], str]]
    calls = [(lambda: app.sum(pandas.Series([1, None, 3], dtype="Int64")), rf"^sum: .*\[1\]: expected float, {missing}"),
             (lambda: app.sum(pandas.array([1, None])), rf"^sum: .*\[1\]: expected float, {missing}"),
             (lambda: app.echo({"time": pandas.NaT}), rf"^echo: e\.time: expected a datetime .*, {missing}"),
             (lambda: app.echo({"number": float("nan")}), "^echo: e.number: expected int, got the float nan, which "),
             (lambda: app.echo({"strings": pandas.Series(["a", object()])}), r"^echo: e\.strings\[1\]: Go has no value"),
             (lambda: app.sum(x for x in [1.0]), r"Go has no value for <generator .*>\. Give a list: list\(…\)$"),
             (lambda: app.echo({"list": pandas.DataFrame({"degree": [1]})}),
              r"list\[0\]: expected Options, got an array of int64 \(.* df.to_dict\(\"records\"\)\)$")]
    for call, why in calls:
        with pytest.raises(gothreads.ArgumentError, match=why):
            call()
    assert app.echo({"list": pandas.DataFrame({"degree": [1]}).to_dict("records")}).list == [types.Options(degree=1)]


def test_masked_arrays_are_taken_if_nothing_is_masked(app: Any, types: Any) -> None:
    ma: Any = numpy.ma
    masked = ma.array([1.0, 2.0, 4.0], mask=[False, True, False])
    calls: list[tuple[Callable[[], object], str]]
    calls = [(lambda: app.sum(masked), r"\[1\]"), (lambda: app.echo({"matrix": [[1.0], masked]}), r"e\.matrix\[1\]\[1\]"),
             (lambda: app.echo({"matrix": ma.array([[1.0], [2.0]], mask=[[False], [True]])}), r"e\.matrix\[1\]\[0\]"),
             (lambda: app.echo({"float64": ma.masked}), r"e\.float64")]
    for call, at in calls:
        with pytest.raises(gothreads.ArgumentError, match=rf"{at}: it is masked, and Go's arrays have no mask"):
            call()
    assert app.sum(masked.filled(0)) == app.sum(masked.compressed()) == 5.0
    assert app.sum(ma.array([1.0, 2.0])) == 3.0


@pytest.mark.parametrize("number", [2**53 + 1, -2**53 - 1, 2**60 + 1, 2**63 - 1, -2**63 + 1])
def test_an_int_is_not_rounded_to_a_float(app: Any, types: Any, number: int) -> None:
    exact = number - (1 if number > 0 else -1) if abs(number) < 2**62 else -2**63
    assert app.sum(numpy.array([exact])) == app.sum([exact]) == app.echo(types.Everything(float64=exact)).float64 == exact
    with pytest.raises(gothreads.ArgumentError, match=rf"\[1\]: expected an array of float64, got one of int64 with {number}, w"):
        app.sum(numpy.array([0, number]))
    with pytest.raises(gothreads.ArgumentError, match=rf"\[1\]: expected a float, got the int {number}, which would be rounded"):
        app.sum([0, number])
    with pytest.raises(gothreads.ArgumentError, match=rf"e.float64: expected a float, got the int {number}, which"):
        app.echo({"float64": number})


def test_a_large_unsigned_int_is_not_rounded_to_a_float(app: Any) -> None:
    assert app.sum([2**63]) == app.sum(numpy.array([2**63], dtype="u8")) == 2**63
    for wrong in ([2**64 - 1], numpy.array([2**64 - 1], dtype="u8")):
        with pytest.raises(gothreads.ArgumentError, match=r"\[0\]: .* 18446744073709551615, which would be rounded"):
            app.sum(wrong)


def test_a_float64_is_rounded_to_a_float32_and_an_int_is_not(app: Any) -> None:
    for rounded in ([0.1], numpy.array([0.1])):
        assert app.echo_numbers([], rounded, [], [], [], b"")[1] == array.array("f", [0.1])
    for wrong in ([2**24 + 1], numpy.array([2**24 + 1]), numpy.array([2**24 + 1], dtype="u4")):
        with pytest.raises(gothreads.ArgumentError, match=r"b\[0\]: .* 16777217, which would be rounded"):
            app.echo_numbers([], wrong, [], [], [], b"")


def test_map_takes_an_iterable_for_each_parameter(app: Any) -> None:
    with pytest.raises(gothreads.ArgumentError, match=r"^map takes an iterable for each parameter of add, not 2\. itert"):
        app.map("add", [1], 2)


def test_arrays_of_what_is_not_plain_numbers_are_lists(app: Any) -> None:
    assert app.join("-", *numpy.array(["a", "b"])) == "a-b"
    assert app.echo_any(numpy.array(["a", "b"])) == ["a", "b"]
    assert app.echo_any(numpy.array(["a", None, 1], dtype=object)) == ["a", None, 1]
    for kind in (">f8", "f2", "O"):
        assert app.sum(numpy.array([1, 2.5], dtype=kind)) == 3.5


# Errors.

def test_errors_have_the_classes_that_errors_is_and_errors_as_find(app: Any, types: Any) -> None:
    with pytest.raises(types.ErrZero, match="^wrapped: division by zero$"):
        app.fail("zero")
    with pytest.raises(types.ParseError, match="^line 3: what") as parse:
        app.fail("parse")
    assert (parse.value.line, parse.value.message) == (3, "what?")
    assert not isinstance(parse.value, types.ErrZero)
    with pytest.raises(types.Code) as code:
        app.fail("code")
    assert code.value.value == 7
    with pytest.raises(gothreads.GoError, match="^anything$") as plain:
        app.fail("anything")
    assert type(plain.value) is gothreads.GoError


def test_an_error_may_have_as_many_numbers_as_a_result(app: Any, types: Any) -> None:
    with pytest.raises(types.OutliersError, match="^20000 outliers$") as error:
        app.fail("outliers")
    assert list(error.value.values) == [1.5] * 20_000


def test_an_error_that_wraps_another_is_of_both_classes(app: Any, types: Any) -> None:
    for kind in (types.ErrZero, types.ParseError, gothreads.GoError, gothreads.HandlerError):
        with pytest.raises(kind, match="^both: line 4: zero$") as both:
            app.fail("both")
        assert both.value.line == 4


# Contexts.

def test_a_timeout_cancels_the_context(app: Any) -> None:
    before, began = app.cancelled(), app.paused() + 1
    assert app.functions.pause(0.01, timeout=60) == "waited"
    with pytest.raises(gothreads.CallTimeout, match="the call of pause has not come back within 0.5 s"):
        app.pause(600.0, timeout=0.5)
    wait_until(lambda: app.cancelled() >= before + app.paused() - began)
    began = app.paused()
    future = app.submit("pause", 600.0)
    wait_until(lambda: app.paused() > began)
    future.cancel()
    wait_until(lambda: app.cancelled() > before)
    with pytest.raises(gothreads.CallTimeout):
        list(app.map("pause", [600.0], timeout=0.05))


def test_a_timeout_is_the_deadline_of_the_context(app: Any) -> None:
    for left, told in (app.time_left(timeout=3600), app.submit("time_left", timeout=3600).result(),
                       asyncio.run(app.time_left_async(timeout=3600))):
        assert told
        assert 3600 - PATIENCE < left <= 3600
    assert app.time_left()[1] is False


def test_a_cancelled_coroutine_cancels_the_context() -> None:
    app: Any

    async def give_up() -> None:
        task = asyncio.create_task(app.pause_async(600.0))
        while app.paused() == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with opened("typed") as app:  # in which no other test's calls are cancelled
        asyncio.run(give_up())
        wait_until(lambda: app.cancelled() == 1)


# Buffers.

@pytest.mark.parametrize("size", [0, 1, 3, 4095, 4096, 5000, 40_000, 300_001])
def test_slices_of_numbers_are_buffers_of_every_size(app: Any, size: int) -> None:
    a = numpy.linspace(0.0, 1.0, size)
    b, c, d = a.astype("f4"), numpy.arange(size), (numpy.arange(size) % 100).astype("i1")
    e, f = numpy.arange(size, dtype="u4").astype("u2"), bytes(range(256)) * (size // 256)
    back = app.echo_numbers(a, b, c, d, e, f)
    for sent, got, code in zip((a, b, c, d, e), back, "dfqbH", strict=False):
        assert isinstance(got, array.array)
        assert got.typecode == code
        assert numpy.array_equal(numpy.asarray(got), sent)
    assert back[5] == f


def test_arrays_memoryviews_lists_and_numbers_of_other_types_are_taken(app: Any) -> None:
    for numbers in ([1, 2.5], array.array("d", [1, 2.5]), memoryview(array.array("f", [1, 2.5])),
                    numpy.array([0, 1, 0, 2.5])[1::2], numpy.array([1, 2.5], dtype="f4")):
        assert app.sum(numbers) == 3.5
    assert app.sum(numpy.arange(100_000)) == app.sum(range(0)) + 4_999_950_000.0
    assert app.sum(numpy.float64(1) * numpy.ones(2)) == 2
    assert app.add(numpy.int32(2), numpy.uint8(3)) == 5
    assert app.echo_numbers([], [], numpy.arange(3, dtype="u1"), [], [], bytearray(b"x"))[2] == array.array("q", [0, 1, 2])


@pytest.mark.parametrize(("place", "value", "why"), [
    (2, numpy.array([1.5]), "c: expected an array of int64, got one of float64"),
    (3, numpy.array([1, 400]), r"d\[1\]: expected an array of int8, got one of int64 with 400"),
    (4, numpy.array([-1]), r"e\[0\]: expected an array of uint16, got one of int64 with -1"),
    (1, numpy.array([1e300]), r"b\[0\]: expected an array of float32, got one of float64 with 1e\+300"),
    (3, [1, 400], r"d\[1\]: expected an int from -128 to 127, got 400"),
    (5, [1], "f: expected bytes, got list"),
])
def test_numbers_that_do_not_fit_are_refused(app: Any, place: int, value: Any, why: str) -> None:
    args: list[Any] = [[], [], [], [], [], b""]
    args[place] = value
    with pytest.raises(gothreads.ArgumentError, match=f"^echo_numbers: {why}$"):
        app.echo_numbers(*args)


def test_a_matrix_is_a_list_of_rows(app: Any, types: Any) -> None:
    pandas = import_module("pandas")  # takes a while
    matrix = numpy.arange(6.0).reshape(2, 3)
    for same in (matrix, pandas.DataFrame(matrix, columns=["a", "b", "c"])):
        back = app.echo(types.Everything(matrix=same))
        assert numpy.array_equal(numpy.array(back.matrix), matrix)


def test_a_large_argument_is_not_changed_by_later_calls(app: Any) -> None:
    """Go keeps the argument where the host has copied it; nothing else may be put there."""
    large = numpy.arange(100_000.0)
    app.keep(large)
    for _ in range(20):
        app.sum(numpy.ones(100_000))
        app.range(100_000)
    assert numpy.array_equal(numpy.asarray(app.kept()), large)


# The classes, and the namespaces.

def test_classes_are_shared_by_apps_of_a_module(app: Any, types: Any) -> None:
    other: Any
    with opened("typed") as other:
        assert other.types.Options is types.Options
        assert other.echo_options(types.Options(degree=1)).degree == 1


def test_values_are_copied_pickled_and_compared(types: Any) -> None:
    value = types.Everything(options=types.Options(degree=3), numbers=array.array("d", [1.0]), color=types.Color.GREEN)
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    for unknown in (types.Color(77), types.Level("none of these")):
        assert copy.copy(unknown) == copy.deepcopy(unknown) == pickle.loads(pickle.dumps(unknown)) == unknown


def test_names_that_are_not_there(app: Any) -> None:
    assert not hasattr(app, "nope")
    assert not hasattr(app, "nope_async")
    with pytest.raises(gothreads.UnknownExport, match="the module has no typed function 'nope'; it has: add, apply, "):
        app.functions.nope()
    with pytest.raises(gothreads.UnknownExport, match=r"^functions go by their names here: 'add', not <Go function add\("):
        app.map(app.add, [1], [2])
    with pytest.raises(gothreads.UnknownExport, match="the module has no export 'ad'. Did you mean 'add'"):
        app.submit("ad", 1, 2)
    with pytest.raises(gothreads.UnknownExport, match=r"^add is a typed function: app.functions.add\(…\)$"):
        app.exports.add(1, 2)
    with pytest.raises(gothreads.UnknownExport, match="the module has no export 'nope'"):
        app.submit("nope")
    assert "add" in app.functions
    assert "add" in dir(app)
    assert "add_async" in dir(app.functions)
    assert {"add", "distance"} < {*app.functions}
    assert app.handlers() == []  # typed functions are not listed as handlers


def test_an_apps_own_attributes_keep_their_names(app: Any) -> None:
    """The names are in the app's own dictionary: a class with __getattr__ would make every call slower."""
    assert {"add", "add_async"} < vars(app).keys()
    assert app.exit is None
    assert app.functions.configuration() == "a function"
    for kind in (gothreads.App, gothreads.Supervised):
        assert not hasattr(kind, "__getattr__")


def test_an_unpickled_app_has_them(app: Any) -> None:
    first: Any
    second: Any
    with gothreads.open(built("typed")) as first, pickle.loads(pickle.dumps(first)) as second:
        assert (second.add(2, 3), second.types) == (5, app.types)


def test_a_module_without_typed_functions_has_none() -> None:
    with gothreads.open(built("json")) as app:
        assert len(app.functions) == 0
        assert not hasattr(app, "add")
        assert [name for name in vars(app.types) if not name.startswith("_")] == []


@pytest.mark.parametrize("bits", [0, 1, 2])
def test_floats_keep_all_their_bits(app: Any, bits: int) -> None:
    number = struct.unpack("<d", struct.pack("<Q", (0x7FF << 52) + bits + (bits << 51)))[0]
    assert struct.pack("<d", app.echo_any(number)) == struct.pack("<d", number)
