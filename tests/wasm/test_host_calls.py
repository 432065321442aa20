"""The table of gothreads' own host calls agrees with the Go code that declares them and the classes that serve them."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

from gothreads.build.overlay import ADDED
from gothreads.wasi import calls
from gothreads.wasm.host_calls import BLOCKING_CALLS, BUILTIN_CALLS, HOST, BuiltinCall

#: WASI functions that only look something up, or that do not return.
NEVER_WAIT = {"clock_time_get", "fd_fdstat_get", "fd_fdstat_set_flags", "fd_fdstat_set_rights", "fd_prestat_dir_name",
              "fd_prestat_get", "fd_tell", "proc_exit", "proc_raise"}


def test_go_declares_every_call_of_the_table() -> None:
    source = "\n".join(path.read_text() for path in ADDED.rglob("*.go"))
    assert set(re.findall(rf"^//go:wasmimport {HOST} (\w+)$", source, re.MULTILINE)) == set(BUILTIN_CALLS)


@pytest.mark.parametrize("call", BUILTIN_CALLS.values(), ids=lambda call: call.name)
def test_what_serves_a_call_has_a_method_of_its_name(call: BuiltinCall) -> None:
    module, _, name = call.server.value.rpartition(".")
    server = getattr(importlib.import_module(f"gothreads.{module}"), name)
    assert callable(getattr(server, call.name))


def test_of_each_wasi_function_it_is_known_whether_it_may_wait() -> None:
    functions = {name for module in pkgutil.iter_modules(calls.__path__)
                 for kind in vars(importlib.import_module(f"{calls.__name__}.{module.name}")).values()
                 if isinstance(kind, type) for name in dir(kind) if name.startswith(f"{module.name}_")}
    assert functions - BUILTIN_CALLS.keys() == NEVER_WAIT | (BLOCKING_CALLS - BUILTIN_CALLS.keys())
    assert not NEVER_WAIT & BLOCKING_CALLS
