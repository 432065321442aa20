"""Random Go structs, built in one module: every value comes back, and no message, however damaged, ends either side.

The seed is new each time. To repeat a failure: GOTHREADS_TYPES_SEED=N, which pytest shows.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import gothreads
from tests.support import modules
from tests.support.generated_types import program
from tests.support.typed_values import SETTINGS, Types, objects, python_survives_replies, survives_messages, values

pytestmark = pytest.mark.long  # builds a program

EXAMPLES = settings(SETTINGS, max_examples=25)


class Generated:
    """A random program that runs. It has a struct for each of the functions `echoes`; `many` have other parameters."""

    def __init__(self, app: Any) -> None:
        self.app, self.types = app, Types(app, deepest=2)
        self.echoes = [function for function in self.types.described.functions if function.name.startswith("echo_")]
        self.many = [function for function in self.types.described.functions if function.name.startswith("many")]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    seed = int(os.environ.get("GOTHREADS_TYPES_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"GOTHREADS_TYPES_SEED={seed}")
    with modules.outside_timeout():
        app = gothreads.open(modules.written(tmp_path_factory.mktemp("go") / "types", program(seed)))
    with app:
        yield Generated(app)


def comes_back(called: Any, arguments: SearchStrategy[Any]) -> None:
    """Check that a function returns its arguments."""
    @EXAMPLES
    @given(arguments)
    def check(args: tuple[Any, ...]) -> None:
        back = called(*args) if len(args) > 1 else (called(*args),)
        assert back == args
        assert list(map(type, back)) == list(map(type, args))
    check()


def test_structs_come_back_as_they_went(generated: Generated) -> None:
    for function in generated.echoes:
        objects_of_it = objects(function.params[0].type.name, generated.types)
        comes_back(generated.app.functions[function.name], st.tuples(objects_of_it))


def test_arguments_of_several_types_come_back_as_they_went(generated: Generated) -> None:
    for function in generated.many:
        comes_back(generated.app.functions[function.name],
                   st.tuples(*(values(param.type, generated.types) for param in function.params)))


def test_damaged_messages_and_replies_are_errors(generated: Generated) -> None:
    for function in generated.echoes:
        called = generated.app.functions[function.name]
        good = getattr(generated.app.types, function.params[0].type.name)()
        message = called._arguments.encode((good,))
        survives_messages(generated.app, called, message, EXAMPLES)
        python_survives_replies(called, generated.app._caller.call(called._handler, message), EXAMPLES)
    for function in generated.many:
        survives_messages(generated.app, generated.app.functions[function.name], b"\x94\x01\xa1x\xc0\x90", EXAMPLES)
