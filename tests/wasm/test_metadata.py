"""The custom section `gothreads`: from an untrusted file, so it is either understood or refused in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gothreads.errors import ModuleError
from gothreads.wasm.metadata import ABI, Metadata, decode
from gothreads.wasm.signature import ImportSignature, Parameter, Signature

ADD = Signature("add", "func add(a, b int32) int32", "add", "main", "adds\n",
                (Parameter("a", "int32"), Parameter("b", "int32")), "int32", "main.go:3")
LOG = ImportSignature("log", "func log(text string)", "log", "main", "", (Parameter("text", "string"),), None,
                      "main.go:9", "env")
GOOD = Metadata("0.1.0", "go1.27.3", "threaded", "exe", handlers=True,
                exports=(ADD,), options={"preemption": True}, imports=(LOG,))
FIELDS: dict[str, Any] = json.loads(GOOD.encode())

anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                        lambda inner: st.lists(inner, max_size=3)
                        | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6)


def understood_or_refused(content: bytes) -> None:
    try:
        decoded = decode(content)
    except ModuleError as error:
        said = str(error)
    else:
        assert decode(decoded.encode()) == decoded
        said = decoded.version + decoded.go
    assert said.isprintable(), "one line that a terminal can show"


def test_what_was_encoded_is_decoded() -> None:
    assert decode(GOOD.encode()) == GOOD


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_one_line(content: bytes) -> None:
    understood_or_refused(content)


@settings(deadline=None)
@given(anything)
def test_arbitrary_json_is_refused_in_one_line(value: object) -> None:
    understood_or_refused(json.dumps(value).encode())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(FIELDS)), anything)
def test_a_field_of_any_value_is_understood_or_refused_in_one_line(key: str, value: object) -> None:
    understood_or_refused(json.dumps(FIELDS | {key: value}).encode())


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(ADD.to_json())), anything)
def test_an_export_with_a_field_of_any_value_is_understood_or_refused_in_one_line(key: str, value: object) -> None:
    understood_or_refused(json.dumps(FIELDS | {"exports": [ADD.to_json() | {key: value}]}).encode())


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(LOG.to_json())), anything)
def test_an_import_with_a_field_of_any_value_is_understood_or_refused_in_one_line(key: str, value: object) -> None:
    understood_or_refused(json.dumps(FIELDS | {"imports": [LOG.to_json() | {key: value}]}).encode())


@pytest.mark.parametrize("key", sorted(FIELDS.keys() - {"abi"}))
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(ModuleError, match=f"section 'gothreads' is malformed: '{key}'"):
        decode(json.dumps({k: v for k, v in FIELDS.items() if k != key}).encode())


@pytest.mark.parametrize("abi", [ABI + 1, 0, None, "1", [], "x" * 1000, "\n\x1b[31m"])
def test_another_module_format_says_to_rebuild(abi: object) -> None:
    with pytest.raises(ModuleError, match=r"built by gothreads .*0\.1\.0.*Rebuild it: gothreads build") as raised:
        decode(json.dumps(FIELDS | {"abi": abi}).encode())
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("version", ["two\nlines", "\x1b[31mred", "\ud800"])
def test_a_version_that_no_terminal_should_see_is_not_shown(version: str) -> None:
    for fields in (FIELDS | {"version": version}, FIELDS | {"version": version, "abi": ABI + 1},
                   FIELDS | {"go": version}):
        understood_or_refused(json.dumps(fields).encode())


def test_deep_and_huge_json_are_refused() -> None:
    for content in (b"[" * 100_000, b'{"a":' * 50_000, b"1" * 100_000, b" " * ((16 << 20) + 1)):
        with pytest.raises(ModuleError, match="malformed"):
            decode(content)
