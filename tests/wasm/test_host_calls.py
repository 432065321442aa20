"""The table of gothreads' own host calls agrees with the Go code that declares them and the classes that serve them."""

from __future__ import annotations

import importlib
import re

import pytest

from gothreads.build.overlay import ADDED
from gothreads.wasm.host_calls import BUILTIN_CALLS, HOST, BuiltinCall


def test_go_declares_every_call_of_the_table() -> None:
    source = "\n".join(path.read_text() for path in ADDED.rglob("*.go"))
    assert set(re.findall(rf"^//go:wasmimport {HOST} (\w+)$", source, re.MULTILINE)) == set(BUILTIN_CALLS)


@pytest.mark.parametrize("call", BUILTIN_CALLS.values(), ids=lambda call: call.name)
def test_what_serves_a_call_has_a_method_of_its_name(call: BuiltinCall) -> None:
    module, _, name = call.server.value.rpartition(".")
    server = getattr(importlib.import_module(f"gothreads.{module}"), name)
    assert callable(getattr(server, call.name))
