"""The options of open and supervise: one definition, from which signatures, documentation and checks follow."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack, get_type_hints

import pytest

import gothreads
from gothreads.runtime.interface import RunningModule
from gothreads.runtime.keywords import Option, complete, definition, documented, one_of, whole
from gothreads.runtime.options import OpenOptions
from gothreads.supervise.options import RestartOptions, RestartPolicy, SuperviseOptions

TAKING = [(gothreads.open, OpenOptions), (gothreads.supervise, SuperviseOptions)]


@pytest.mark.parametrize(("function", "options"), TAKING)
def test_the_signature_has_every_option_with_its_type_and_default(function: Callable[..., Any], options: type) -> None:
    path, *others = inspect.signature(function).parameters.values()
    assert path.name == "path"
    assert {one.name for one in others} == set(definition(options))
    types = get_type_hints(options, localns={"asyncio": asyncio})
    for one in others:
        assert one.kind is inspect.Parameter.KEYWORD_ONLY
        assert one.default == definition(options)[one.name].default
        assert isinstance(one.annotation, str) or one.annotation == types[one.name]


@pytest.mark.parametrize(("function", "options"), TAKING)
def test_the_documentation_has_every_option(function: Callable[..., Any], options: type) -> None:
    documentation = " ".join(str(inspect.getdoc(function)).split())
    for name, option in definition(options).items():
        assert f" {name}: {option.phrase}. {' '.join(option.more.split())}".rstrip() in documentation
    assert "{" not in documentation.replace('{"', "")


def test_every_option_is_described_in_one_phrase() -> None:
    for option in definition(SuperviseOptions).values():
        assert option.phrase
        assert not option.phrase.endswith(".")
        assert not option.more or option.more.strip().endswith((".", ")"))


def test_supervise_has_the_options_of_open_and_those_of_restarts() -> None:
    assert definition(SuperviseOptions) == {**definition(OpenOptions), **definition(RestartOptions)}
    assert set(inspect.signature(RestartPolicy).parameters) == set(definition(RestartOptions))


@pytest.mark.parametrize("function", [gothreads.open, gothreads.supervise])
@pytest.mark.parametrize(("options", "said"), [
    ({"calers": 3}, "has no option 'calers'. Did you mean callers\\?$"),
    ({"x": 3}, "has no option 'x'. It has: .*args, env, mounts, procs, "),
    ({"args": "one"}, "args must be a list of str"),
    ({"env": {"A=B": "1"}}, "env must be a dict of str to str"),
    ({"mounts": 3}, "mounts must be a dict"),
    ({"mounts": [gothreads.Mount(Path("/data"), ".")]}, r"slash, not '.'\. The host's path comes first: Mount\(host, guest\)"),
    ({"procs": 1025}, "procs must be between 1 and 1024, not 1025"),
    ({"callers": 0}, "callers must be at least 1, not 0"),
    ({"callers": None}, "callers must be an int, not None"),
    ({"callers_timeout": -1}, "callers_timeout must be a number of seconds of at least 0"),
    ({"limits": 512}, r"limits must be gothreads\.Limits"),
    ({"stdin": 3}, "stdin must be bytes or a file object"),
    ({"stall_timeout": 0}, "stall_timeout must be a number of seconds above 0"),
    ({"on_stall": "log"}, 'on_stall must be "report", "exit" or a function'),
    ({"listen": "127.0.0.1:0"}, "listen must be a list of addresses"),
    ({"allow_net": [3]}, "allow_net must be a list of addresses"),
    ({"host": 3}, r"host must be a gothreads\.Host"),
    ({"handlers": 3}, "handlers must be a dict"),
    ({"handlers": {"price": 3}}, "the handler 'price' must be a function"),
    ({"event_queue": True}, "event_queue must be an int, not True"),
    ({"instances": 0}, "instances must be at least 1"),
])
def test_a_wrong_option_is_refused_before_anything_is_built(
        tmp_path: Path, function: Callable[..., Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(gothreads.MisuseError, match=said):
        function(tmp_path / "missing.wasm", **options)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"open\(\) has no option 'model_'"):
        gothreads.open("missing.wasm", model_="pool")  # type: ignore[call-arg]


class Example(TypedDict, total=False):
    size: Annotated[int, Option(3, "how large", check=whole(1, 9))]
    shape: Annotated[str | None, Option(None, "how it looks", "In words.", check=one_of("round", "flat"))]
    place: Annotated["Path", Option(Path("/"), "where it is")]


@documented(Example)
def example(name: str, **options: Unpack[Example]) -> dict[str, Any]:
    """An example.

    {Example}
    """
    return complete("example()", Example, options)


def test_options_are_completed_with_their_defaults() -> None:
    assert example("x") == {"size": 3, "shape": None, "place": Path("/")}
    assert example("x", size=4, shape="flat") == {"size": 4, "shape": "flat", "place": Path("/")}
    assert example("x", shape=None)["shape"] is None


def test_a_function_is_documented_from_the_definition() -> None:
    assert inspect.getdoc(example) == "An example.\n\nsize: how large.\nshape: how it looks.\n    In words.\nplace: where it is."
    assert str(inspect.signature(example)).startswith("(name: str, *, size: int = 3, shape: str | None = None, place: "
                                                      "'Path' = ")


def test_app_and_supervised_have_the_same_methods_with_one_documentation() -> None:
    shared = [name for name in vars(RunningModule) if not name.startswith("_") and name not in ("close", "events")]
    for name in shared:
        documentation = inspect.getdoc(getattr(RunningModule, name))
        for kind in (gothreads.App, gothreads.Supervised):
            member = getattr(kind, name)
            assert documentation, name
            assert inspect.getdoc(member) == documentation, (kind, name)
            if not isinstance(member, (property, functools.cached_property)):
                assert inspect.signature(member) == inspect.signature(getattr(RunningModule, name)), (kind, name)
