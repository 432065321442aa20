"""`gothreads call` of typed functions."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import command
from tests.support.modules import built


@pytest.mark.parametrize(("args", "out"), [
    (["add", "2", "3"], "5\n"),
    (["shout", "2"], "2!\n"),
    (["join", "-", "a", "b"], "a-b\n"),
    (["sum", "[1, 2.5]"], "3.5\n"),
    (["total", "1", "2.5"], "3.5\n"),
    (["total", "1", "-inf"], "-inf\n"),
    (["divide", "7", "2"], "[3, 1]\n"),
    (["nothing"], ""),
    (["echo_options", '{"degree": 3}'], '{"degree": 3, "rate": 0.0, "name": "", "robust": false, "n": 0}\n'),
    (["echo_time", "2024-02-29T12:30:15Z", "PT1.5S"], '["2024-02-29T12:30:15Z", "PT1.5S"]\n'),
    (["echo_any", '{"a": [null, true]}'], '{"a": [null, true]}\n'),
    (["reverse", "hé"], "\ufffd\ufffdh"),
    (["count", "3"], "0\n1\n2\n"),
    (["enumerate", '["é"]'], '[0,"é"]\n'),
])
def test_arguments_are_json_and_texts_as_they_are(args: list[str], out: str) -> None:
    code, stdout, stderr = command("call", built("typed"), *args)
    assert (code, stdout) == (0, out), stderr


def test_the_result_as_json() -> None:
    _, out, _ = command("call", built("typed"), "--json", "divide", "7", "2")
    assert json.loads(out) == [3, 1]


@pytest.mark.parametrize(("args", "why"), [
    (["add", "2", "x"], "add: argument 2 must be JSON, not 'x'"),
    (["add", "2", '"x"'], "add: b: expected a whole number, got a string"),
    (["add", "2"], "add has no value for 'b': func Add(a, b int) int"),
    (["add", "1", "2", "3"], "add takes 2 arguments, 3 given: func Add(a, b int) int"),
    (["echo_options", '{"degree": "x"}'], "echo_options: o.degree: expected a whole number, got a string"),
    (["divide", "1", "0"], "division by zero"),
    (["apply", "[1]", "abs"], "apply takes callables or file objects (f), which JSON does not have. Call it from Python"),
])
def test_wrong_arguments_and_errors(args: list[str], why: str) -> None:
    code, out, err = command("call", built("typed"), *args)
    assert (code != 0, out) == (True, "")
    assert why in err


def test_an_error_comes_after_the_items_of_an_iterator() -> None:
    code, out, err = command("call", built("typed"), "scan", "a", "b", "", "c")
    assert (code != 0, out) == (True, '"a"\n"b"\n')
    assert "line 2: empty" in err


def test_a_timeout_ends_the_call_and_the_module() -> None:
    for timeout in ("0.2", "2", "20"):  # on a loaded machine, a call may take so long to begin
        code, out, err = command("call", "--timeout", timeout, built("typed"), "pause", "600")
        assert (code, out) == (124, "")
        if "has not begun" not in err:
            break
    assert "the call of pause " in err
    # It returns when its context ends, which may be just before the module would be ended.
    assert "; the module was ended" in err or "; it came back then" in err


def test_they_are_listed() -> None:
    _, out, _ = command("call", built("typed"))
    assert "typed functions:\n  distance: func Distance(a, b Point) float64\n" in out
    _, out, _ = command("call", built("typed"), "--json")
    assert {"add", "distance"} < {function["name"] for function in json.loads(out)["typed"]}
    _, _, err = command("call", built("typed"), "ad")
    assert "add" in err
