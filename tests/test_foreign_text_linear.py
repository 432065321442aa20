"""Text from modules, files and clients: whatever it is, reading it takes time in proportion to its length.

Regular expressions hold Python's lock, so one that tries all ways to divide what it is given stops all other threads.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers

import gothreads
from gothreads.build import go_list
from gothreads.errors import CompileError, GuestTrap
from gothreads.runtime.inspector import parse_goroutines
from gothreads.serve import json_arguments
from gothreads.serve.guard import Hosts
from gothreads.text import printable, shown
from gothreads.wasi import openat, panics
from gothreads.wasi.streams import TAIL, Tail
from gothreads.wasm.signature import Signature
from tests.conftest import assert_linear

Text = Callable[[int], str]
Pattern = re.Pattern[str] | re.Pattern[bytes]

#: For each regular expression of a module's, by its name: texts that would be hard for one that backtracks.
PATTERNS: dict[str, list[Text]] = {
    "_PROGRAM": [lambda n: "package mai\n" * n, lambda n: "\n" * n, lambda n: "package main_" * n],
    "_DURATION": [lambda n: "1m" * n + "x", lambda n: "1.5ms" * n + "!", lambda n: "1" * n, lambda n: "1." * n],
    "_WITH_STACK": [
        lambda n: "panic: x" + "\n\t" * n, lambda n: "panic: x\n[" * n, lambda n: "panic: x\n\ngoroutine 1 " + "a" * n,
        lambda n: "panic: x\n\ngoroutine " + "1" * n, lambda n: "panic: \n" * n, lambda n: "fatal error: " * n],
    "_MIXED": [
        lambda n: "fatal error: \n" * n, lambda n: "fatal error: " + "a" * n + "\n" * n,
        lambda n: "fatal error: \ngoroutine 1 gp=" * n, lambda n: "fatal error: x\ngoroutine " + "1" * n],
    "_AT_THE_END": [
        lambda n: "panic: x" + "\n\t" * n + "\nx", lambda n: "panic: x\n\t" + "\t" * n + "\nx",
        lambda n: "panic: x" + "\n[" * n + "\nx", lambda n: "panic: x" + "\n" * n + "x",
        lambda n: "panic: \n" * n + "x"],
    "_HEADER": [
        lambda n: "goroutine 1 gp=" + "a" * n, lambda n: "goroutine 1 gp= m=" + "m=" * n,
        lambda n: "goroutine 1 [" + "]:" * n + "x",
        lambda n: "goroutine 1 gp=a m=a mp=" + "a" * n, lambda n: "goroutine " + "1" * n],
    "_MAYBE": [lambda n: "//" + " " * n, lambda n: "//go" + " " * n, lambda n: "//go:" + "a" * n, lambda n: "//go\n" * n],
    "_CAUSE": [lambda n: "1" * n, lambda n: "1: " * n],
    "_CACHE_ENTRY": [lambda n: "a" * n, lambda n: ("a" * 64 + "-") * n],
    "_ID": [lambda n: "a" * n, lambda n: "a" * n + " ", lambda n: "." * 128 * n],
    "_COMMANDS": [lambda n: "\x1b" * n, lambda n: "a" * n],
    "_IDENTIFIER": [lambda n: "a" * n + " "],
    "_FIELD_NAMES": [lambda n: ":" * n, lambda n: ":" + "a" * n, lambda n: ":a:" * n + ":"],
    "_LINKNAME": [lambda n: "//go:linkname" + " " * n, lambda n: "//go:linkname " + "a" * n,
                  lambda n: "//go:linkname a" + " " * n],
    "_SEEDS": [lambda n: "1" * n, lambda n: "1.." * n],
    "_TOKEN": [lambda n: " " * n, lambda n: "/*a" * n, lambda n: '"' + r"\a" * n, lambda n: "'" + "a" * n,
               lambda n: "`" + "\n" * n, lambda n: "1e+" * n, lambda n: "a" * n],
    "_DIRECTIVE": [lambda n: "//" + "a" * n, lambda n: "//" * n, lambda n: "//a:" * n],
    "_POSITION": [lambda n: "\n" * n, lambda n: " \t" * n, lambda n: "a.go" * n, lambda n: "a.go:\n" * n,
                  lambda n: "\ta.go" * n + ":"],
    "_USES_C": [lambda n: "\n" * n, lambda n: "import" + " " * n + "x", lambda n: '"C"' + " " * n + "x",
                lambda n: "import\n" * n],
    "_PACKAGE_LINE": [lambda n: "a/" * n, lambda n: "a" * n + " ", lambda n: "a/b." * n + " "],
    "_REPLACED": [
        lambda n: "\n" * n, lambda n: " \n" * n, lambda n: "replace\n" * n, lambda n: " " * n,
        lambda n: "gothreads/guest v" + "a" * n,
        lambda n: "gothreads/guest" + " " * n + "=", lambda n: "gothreads/guest => a" + " " * n + "x",
        lambda n: "gothreads/guest => " + "\n" * n],
    "_NOTHING": [lambda n: " " * n + "x", lambda n: "{" + " " * n + "x", lambda n: "{}" + "\n" * n + "x"],
    "_OPENING": [
        lambda n: " " * n + "x", lambda n: "{" + " " * n + "x", lambda n: '{"args"' + "\t" * n + "x",
        lambda n: '{"args":' + " " * n + "x", lambda n: '{"args":[' + "\n" * n + "x"],
    "_COMMA": [lambda n: " " * n + "x", lambda n: "," + "\n" * n + "x"],
    "_END": [lambda n: " " * n + "x", lambda n: "]" + " " * n + "x", lambda n: "]}" + "\n" * n + "x"],
    "_NAME": [lambda n: "a" * n + "!", lambda n: "a/" * n, lambda n: "/" * n, lambda n: "a//" * n],
    "_PACKAGE": [lambda n: "a" * n + "!", lambda n: "a/" * n, lambda n: "a/" * n + "!", lambda n: "/" * n],
    "_CERTIFICATE_NAME": [lambda n: "a" * n, lambda n: "a" * 200 + "#" * n, lambda n: ("a" * 201 + " ") * n],
    "_HASH": [lambda n: "sha256:" * n, lambda n: "sha256:" + "0" * n, lambda n: "sha256:" + "0" * 63 * n + "x"],
    "_RIGHT": [lambda n: "call/" * n, lambda n: "call/" + "*" * n + " ", lambda n: "*/#" * n, lambda n: "metric" * n],
    "_MAY_WAIT": [lambda n: "\xfe" * n, lambda n: "\xfe\x81" + "\x80" * n, lambda n: "\xfe\x81\x80" * n],
    "_BEGINNING": [lambda n: "\x02\x40\x03\x40" + "\x02\x40" * n, lambda n: "\x02\x40" * n],
    "_BRANCH": [
        lambda n: "\x41" + "\x80" * n, lambda n: "\x0c" + "\x80" * n,
        lambda n: "\x41\x00\x21\x00\x0c" + "\x80" * n],
    "_CALL": [lambda n: "\x20\x01\x41\x08\x6b\x22\x01\x24\0\x20\x01\x42" + "\x80" * n],
    "_JUMP": [lambda n: "\x01\x01\x7f\x23\0\x21\x01\x41\0\x10" + "\x80" * n],
    "_VERSION": [lambda n: " " * n, lambda n: "go" + " " * n, lambda n: "\n" * n, lambda n: "go 1." * n],
    "_BUILD_ID": [lambda n: 'Go build ID: "' + "a" * n, lambda n: 'Go build ID: "' * n],
    "_WORK": [lambda n: "/go-build" + "1" * n, lambda n: "/go-build1/b" * n, lambda n: "/go-build1/b" + "1" * n + "x"],
    "_CACHEABLE": [lambda n: "-test." * n, lambda n: "-test.run" * n],
    "_DATA_COPY": [lambda n: "\x41" * n, lambda n: "\x41\x80" * n, lambda n: "\x41" + "\x80" * n,
                   lambda n: "\x41\x00\x41\x00\x41" + "\x80" * n],
    "_TO_FAST": [lambda n: "\x23\0\x22\x01\x10" * n, lambda n: "\x23\0\x22\x01\x10" + "\x80" * n],
    "_IMPORT_WRAPPER": [
        lambda n: "\x01\x01\x7f\x23\0\x21\x01" + "\x20\x01\x28\x02\x00" * n,
        lambda n: "\x01\x01\x7f\x23\0\x21\x01\x20\x01\x28\x02" + "\x80" * n,
        lambda n: "\x01\x01\x7f\x23\0\x21\x01\x10" + "\x80" * n],
}

#: Patterns that gothreads/serve/json_arguments.py tries at one place only. To search for them would take quadratic time.
AT_ONE_PLACE = ("_NOTHING", "_OPENING", "_COMMA", "_END")


def test_patterns_for_one_place_are_not_searched_for() -> None:
    source = inspect.getsource(json_arguments)
    uses = re.findall(rf"\b(?:{'|'.join(AT_ONE_PLACE)})\.(\w+)", source)
    assert set(uses) == {"match", "fullmatch"}


def patterns() -> Iterator[tuple[str, Pattern]]:
    """All that modules of gothreads have, but for those that only see what gothreads has measured itself."""
    for found in pkgutil.walk_packages(gothreads.__path__, "gothreads."):
        if not found.name.startswith(("gothreads.tools.compare", "gothreads.tools.stress", "gothreads._",
                                      "gothreads.__")):
            try:
                module = importlib.import_module(found.name)
            except ImportError as error:
                if error.name != "ray":  # which is not among what the tests install
                    raise
                continue
            yield from ((name, value) for name, value in vars(module).items() if isinstance(value, re.Pattern))


@pytest.mark.long
@pytest.mark.parametrize(("name", "pattern"), [pytest.param(name, pattern, id=name) for name, pattern in patterns()])
def test_a_pattern_takes_time_in_proportion_to_the_text(name: str, pattern: Pattern) -> None:
    assert name in PATTERNS, "say here what its worst texts are"
    for text in PATTERNS[name]:
        def made(n: int, text: Text = text) -> str | bytes:
            return text(n) if isinstance(pattern.pattern, str) else text(n).encode("latin-1")
        for use in (pattern.match, pattern.fullmatch, *([] if name in AT_ONE_PLACE else [pattern.search])):
            assert_linear(made, use)


def _tail(text: bytes) -> str:
    tail = Tail()
    for at in range(0, len(text), 1000):
        tail.add(text[at:at + 1000])
    return tail.text


def _signature(text: str) -> None:
    fields: dict[str, object] = {"name": "f", "go": "func f()", "function": "f", "package": "main", "doc": text,
                                 "params": [], "result": None, "position": "a.go:1"}
    assert Signature.from_json(json.loads(json.dumps(fields))).declaration == "func f()"


def _asked_as(text: str, *, any_address: bool = False) -> None:
    Hosts(any_address=any_address).have(Headers({"host": text}))


#: What reads text in more steps than one pattern.
READERS: dict[str, tuple[Text, Callable[[str], object]]] = {
    "last words that are newlines and tabs": (lambda n: "panic: x" + "\n\t" * n + "\nx", panics.reason),
    "last words of many frames": (lambda n: "panic: x\n\ngoroutine 1 [running]:\n" + "strings.f(\n\t/src/strings/f:1\n" * n,
                                  panics.frames),
    "last words of a long frame": (lambda n: "panic: x\n\ngoroutine 1 [running]:\n" + "/." * n + "\n\t" + "/:" * n,
                                   panics.frames),
    "last words of blank lines": (lambda n: "panic: x" + "\n \n\t\r" * n, panics.reason),
    "last words of many panics": (lambda n: "panic: x\n\n" * n, panics.reason),
    "last words of many throws": (lambda n: "fatal error: fatal error: \n" * n, panics.reason),
    "standard error in pieces": (lambda n: "panic: x" + "\n\t" * 32 * n + "\nx", lambda text: _tail(text.encode())),
    "standard error without a line": (lambda n: "fatal error: " * 8 * n, lambda text: _tail(text.encode())),
    "an error's text": (lambda n: "\r\n\x1b\t" * n, lambda text: str(GuestTrap("x", stderr=text))),
    "a compiler's output": (lambda n: "\r\n\x1b\t" * n, lambda text: str(CompileError("x", text))),
    "a name": (lambda n: "\x1b\n" * n, shown),
    "lines": (lambda n: "\r\r\n\x1b" * n, printable),
    "stacks without goroutines": (lambda n: "\n\n" * n, parse_goroutines),
    "stacks of one header": (lambda n: "goroutine 1 [" + "]:" * n, parse_goroutines),
    "stacks of many goroutines": (lambda n: "goroutine 1 gp=1 m=1 [running]:\nmain.main()\n\n" * n, parse_goroutines),
    "go list": (lambda n: '{"a":1} \n' * n, go_list.json_values),
    "a signature": (lambda n: "\t\n\\\"" * n, _signature),
    "a Host header of colons": (lambda n: ":" * n, _asked_as),
    "a Host header of ports": (lambda n: ":1" * n + "x", _asked_as),
    "a Host header of digits": (lambda n: ":" + "1" * n + "x", lambda text: _asked_as(text, any_address=True)),
    "a Host header of dots": (lambda n: "[" + "1." * n + "]", lambda text: _asked_as(text, any_address=True)),
}


@pytest.mark.parametrize(("make", "read"), READERS.values(), ids=READERS)
def test_reading_takes_time_in_proportion_to_the_text(make: Text, read: Callable[[str], object]) -> None:
    assert_linear(make, read)


@pytest.mark.long
def test_a_path_of_many_parts_takes_time_in_proportion_to_its_length(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_PATH)
    (tmp_path / "a").mkdir()

    def look_up(path: bytes) -> None:
        os.close(openat.open_part_by_part(folder, path, os.O_RDONLY, 0))
    try:
        assert_linear(lambda n: b"a/../" * n + b"a", look_up, begin=32_000)
    finally:
        os.close(folder)


def test_last_words_of_newlines_and_tabs_do_not_hide_what_was_said() -> None:
    blank = "\n\t\n \r\n" * (TAIL // 6)
    assert panics.reason("x\npanic: on purpose" + blank) == "panic: on purpose"
    assert panics.reason("x\npanic: \n\n") == "panic:"
    assert panics.reason("x\npanic: on purpose\n\tagain\n[signal 9]\n") == "panic: on purpose"
    assert panics.reason("x\npanic: on purpose" + blank + "\nx") is None
