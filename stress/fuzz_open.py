"""What a module says about itself, and what it is opened with: sections, names, mounts and settings of any kind.

    python -m stress.fuzz_open [--seconds 60] [--count N] [--seed N] [--only NAME]

    metadata    the section `gothreads`: JSON of any kind, damaged, deeply nested, with huge numbers and strange texts
    shown       the same, and exports and imports of any name, as they reach a terminal (inspect, errors), HTTP and the
                page
    mounts      folders of any name at paths of any name, by the Python API and by --mount
    settings    arguments, environment, addresses and limits of any kind, by the Python API and the command line
    limits      gothreads.Limits with values of any kind

The outcome is a gothreads error, or a running module that sees what it was given. Nothing that reaches a terminal
controls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import html.parser
import io
import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import wasmtime

import gothreads
from gothreads.cli.inspect import describe
from gothreads.cli.main import main as command
from gothreads.errors import ModuleError
from gothreads.runtime.module_file import check_module
from gothreads.serve.web import web_app
from gothreads.wasm import metadata
from gothreads.wasm.binary import ExportEntry, Import, Kind
from gothreads.wasm.leb import uleb
from gothreads.wasm.parsing import parse
from stress import random_values
from stress.fuzzing import Finding, Part, main
from tests.support.modules import built

_SIGNATURE = {"name": "add", "go": "func add(a, b int32) int32", "function": "add", "package": "main", "doc": "adds\n",
              "params": [{"name": "a", "type": "int32"}, {"name": "b", "type": "int32"}], "result": "int32",
              "position": "main.go:3"}
_GOOD: dict[str, Any] = {"abi": metadata.ABI, "version": "0.1.0", "go": "go1.27.3", "model": "single",
                         "buildmode": "c-shared",
                         "handlers": False, "options": {"preemption": True}, "exports": [_SIGNATURE],
                         "imports": [_SIGNATURE | {"name": "log", "module": "env"}]}


class Metadata(Part[bytes]):
    name = "metadata"

    def make(self, choose: random.Random) -> bytes:
        if choose.random() < 0.1:
            return random_values.json_text(choose)
        fields = copy.deepcopy(_GOOD)
        for _ in range(choose.choice((1, 1, 2, 4))):
            _change(choose, fields)
        content = json.dumps(fields).encode()
        return content if choose.random() < 0.9 else content[:choose.randrange(len(content))]

    def attempt(self, case: bytes) -> str:
        try:
            decoded = metadata.decode(case)
        except ModuleError as error:
            if not str(error).isprintable() or len(str(error)) > 2_000:
                raise Finding(f"an error that is not one printable line: {str(error)[:2_000]!r}") from None
            return "refused"
        if metadata.decode(decoded.encode()) != decoded:
            raise Finding("it differs after a round trip")
        return "taken"


def _change(choose: random.Random, value: Any) -> None:
    """Change one value of JSON, at any depth."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        place = choose.choice(places)
        if isinstance(value[place], dict | list) and choose.random() < 0.8:
            value = value[place]
            continue
        match choose.randrange(5):
            case 0:
                del value[place]
            case 1 if isinstance(value[place], str):
                value[place] = random_values.text(choose)
            case 2 if isinstance(value, list):
                value.append(copy.deepcopy(value[place]))
            case 3:
                value[place] = [value[place]] * choose.choice((0, 1, 3, 2_000))
            case _:
                value[place] = random_values.json_value(choose)
        return


class Shown(Part[bytes]):
    """A module that can be opened, apart from its section and its names."""

    name = "shown"

    def __enter__(self) -> Shown:
        with contextlib.ExitStack() as opening:
            self._file = Path(opening.enter_context(tempfile.TemporaryDirectory())) / "fuzzed.wasm"
            self._runner = opening.enter_context(asyncio.Runner())
            self._opened = opening.pop_all()
        self._module = parse(bytes(wasmtime.wat2wasm("""(module (memory (export "memory") 1)
            (func (export "add") (param i32 i32) (result i32) (i32.const 5))
            (func (export "f") (param i64 f64)) (func (export "_initialize")))""")))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._opened.close()

    def make(self, choose: random.Random) -> bytes:
        module = copy.deepcopy(self._module)
        titles = [e.name for e in module.exports]
        for _ in range(choose.choice((0, 1, 3))):
            title = random_values.text(choose, surrogates=False, longest=20_000)
            if title not in titles:
                titles.append(title)
                module.exports.append(ExportEntry(title, Kind.FUNC, choose.randrange(2)))
        if choose.random() < 0.3:
            source = choose.choice(("env", "wasi_snapshot_preview1", random_values.text(choose, surrogates=False)))
            title, kind = random_values.text(choose,
                                             surrogates=False), choose.choice((Kind.FUNC, Kind.FUNC, Kind.GLOBAL))
            module.imports.append(Import(source, title, kind, uleb(1) if kind is Kind.FUNC else uleb(1) + b"\0"))
            module.exports = [ExportEntry(e.name, e.kind, e.index + (e.kind is Kind.FUNC and kind is Kind.FUNC))
                              for e in module.exports]
        if choose.random() < 0.5:
            named = _SIGNATURE | {"name": choose.choice(titles)}
            texts = {key: random_values.text(choose, surrogates=False)
                     for key in choose.sample(["go", "doc", "position"], 2)}
            fields = _GOOD | {"exports": [named | texts]}
            fields["options"] = {random_values.text(choose): random_values.json_value(choose)}
            module.customs.append(("gothreads", json.dumps(fields).encode()))
            module.customs.append(("go:buildid", b""))
        return module.encode()

    def attempt(self, case: bytes) -> str:
        self._file.write_bytes(case)
        for encoding in ("utf-8", "ascii"):
            file = str(self._file)
            for arguments in (["inspect", file], ["inspect", "--json", file], ["call", file, "nope\x1b[2J"],
                              ["call", file, "add", "x", "y"]):
                self.run(arguments, encoding)
        try:
            loaded = check_module("fuzzed.wasm", case)
            describe(loaded)
        except ModuleError as error:
            if not str(error).isprintable():
                raise Finding(f"an error that is not one printable line: {str(error)[:2_000]!r}") from None
            return "refused"
        try:
            with gothreads.open(self._file) as app:
                return self._runner.run(self.page(app))
        except ModuleError:
            return "not opened"

    def run(self, arguments: list[str], encoding: str) -> None:
        """Runs a command whose output streams have that encoding, as a terminal's do."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))
        with contextlib.redirect_stdout(out):
            command(arguments, out, err)
        for stream in (out, err):
            text = stream.buffer.getvalue().decode(encoding)
            if odd := {letter for letter in text if not letter.isprintable() and letter not in "\n\t"}:
                raise Finding(f"gothreads {arguments[0]} has written {odd!r}: {text[:2_000]!r}")
        if "--json" in arguments and (text := out.buffer.getvalue().decode(encoding)):
            json.loads(text)

    async def page(self, app: gothreads.App) -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web_app(app)),
                                     base_url="http://localhost") as client:
            page, exports = await client.get("/"), await client.get("/api/exports")
        if page.status_code != 200 or exports.status_code != 200:
            raise Finding(f"status {page.status_code}, {exports.status_code}")
        exports.json()
        tags = _Tags()
        tags.feed(page.text)
        if tags.strange:
            raise Finding(f"the page has elements from the module: {tags.strange}")
        return "opened and shown"


class _Tags(html.parser.HTMLParser):
    """Collects elements that are not the page's own, and scripts beyond its single one."""

    _OWN = frozenset((
        "html", "meta", "link", "title", "style", "main", "h1", "h2", "p", "a", "form", "code", "div", "select",
        "option", "input", "button", "output", "textarea", "script"))

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[str] = []
        self._scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._scripts += tag == "script"
        if tag not in self._OWN or self._scripts > 1 or any(name.startswith("on") for name, _ in attrs):
            self.strange.append(f"{tag} {attrs}"[:500])


# Options of opening.

@dataclass(frozen=True)
class Opening:
    """Options of gothreads.open, or the command line's arguments."""

    options: dict[str, Any]
    arguments: tuple[str, ...] = ()


class Mounts(Part[Opening]):
    name = "mounts"

    def __enter__(self) -> Mounts:
        self._module = built("calls", model="single")
        self._closing = tempfile.TemporaryDirectory()
        self.folder = Path(self._closing.name)
        (self.folder / "data").mkdir()
        (self.folder / "file").write_bytes(b"")
        (self.folder / "größe 🐹").mkdir()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.cleanup()

    def make(self, choose: random.Random) -> Opening:
        def host() -> Any:
            paths = [str(self.folder / name) for name in ("data", "file", "größe 🐹", "nope", "data/../data", "")]
            return choose.choice((*paths, *paths, "", "/", "/nope/" + random_values.text(choose, longest=5_000),
                                  str(self.folder) + "/" + random_values.text(choose), "/proc/self/mem", "/dev/null",
                                  random_values.text(choose)))

        def guest() -> Any:
            odd = random_values.text(choose, longest=100_000)
            return choose.choice(("/data", "/", "//", "/.", "/..", "/a/../../b", "data", "", "/" + odd, odd))
        if choose.random() < 0.5:
            text = choose.choice((f"{host()}:{guest()}", f"{host()}:{guest()}:ro",
                                  f"{host()}:{guest()}:{random_values.text(choose)}",
                                  random_values.text(choose)))
            return Opening({}, ("call", "--mount", text, str(self._module), "add", "2", "3"))
        match choose.randrange(4):
            case 0:
                kind: Any = choose.choice((Path, str))
                mounts: Any = [gothreads.Mount(kind(host()), guest(), choose.random() < 0.5)]
            case 1:
                mounts = [gothreads.Mount(random_values.value(choose), random_values.value(choose))]
            case 2:
                mounts = random_values.value(choose)
            case _:
                mounts = {guest(): random_values.value(choose) if choose.random() < 0.2 else host()}
        return Opening({"mounts": mounts})

    def attempt(self, case: Opening) -> str:
        return tried(self._module, case)


def tried(module: Path, case: Opening) -> str:
    if case.arguments:
        out, err = io.StringIO(), io.StringIO()
        code = command(case.arguments, out, err)
        errors = err.getvalue()
        if code == 0 and out.getvalue() != "5\n":
            raise Finding(f"exit code 0 with {out.getvalue()!r}")
        if any(not letter.isprintable() and letter not in "\n\t" for letter in errors):
            raise Finding(f"it writes control characters to the terminal: {errors!r}")
        return "command: taken" if code == 0 else f"command: exit code {code}"
    try:
        with gothreads.open(module, stdout=io.BytesIO(), stderr=io.BytesIO(), **case.options) as app:
            if app.exports.add(2, 3) != 5:
                raise Finding("2 + 3 is not 5")
        return "taken"
    except gothreads.GothreadsError as error:
        if isinstance(error, gothreads.InternalError):
            raise
        return type(error).__name__


class Settings(Part[Opening]):
    name = "settings"
    _OPTIONS = ("args", "env", "procs", "callers", "callers_timeout", "limits", "stdin", "stall_timeout", "on_stall",
                "listen",
                "allow_net", "host", "handlers", "imports", "event_queue", "instances", "model", "simulate")

    def __enter__(self) -> Settings:
        self._module = built("calls", model="single")
        return self

    def make(self, choose: random.Random) -> Opening:
        def value() -> str:
            return choose.choice((random_values.text(choose), str(random_values.integer(choose) % (1 << 70)),
                                  str(random_values.floating(choose)), "127.0.0.1:0", "*:*", "[::1]:0", ":0", "unix:",
                                  "unix:\0",
                                  "localhost:99999", "1.5G", "A=B", "=", "512M"))
        if choose.random() < 0.4:
            option = choose.choice(("--env", "--procs", "--allow-net", "--memory", "--instances", "--model", "--mount"))
            return Opening({}, ("call", f"{option}={value()}", str(self._module), "add", "2", "3"))
        options: dict[str, Any] = {}
        for option in choose.sample(self._OPTIONS, choose.choice((1, 1, 2))):
            match option:
                case "args" if choose.random() < 0.8:
                    options[option] = [random_values.text(choose) for _ in range(choose.randrange(3))]
                case "env" if choose.random() < 0.8:
                    options[option] = {random_values.text(choose, longest=50): random_values.text(choose)
                                       for _ in range(choose.randrange(3))}
                case "listen" | "allow_net" if choose.random() < 0.8:
                    options[option] = [value() for _ in range(choose.randrange(3))]
                case "limits" if choose.random() < 0.9:
                    options[option] = None
                case "host":
                    odd = random_values.value(choose)
                    options[option] = choose.choice((odd,
                                                     {random_values.text(choose): {random_values.text(choose): print}},
                                                     {"env": odd}))
                case "handlers" | "imports":
                    options[option] = choose.choice((random_values.value(choose),
                                                     {random_values.text(choose): choose.choice((print, 3))}))
                case "procs" | "callers" | "instances" | "event_queue" if choose.random() < 0.8:
                    options[option] = choose.choice((1, 2, 0, -1, 3.0, True, None, 10**30))
                case _:
                    options[option] = random_values.value(choose)
        return Opening(options)

    def attempt(self, case: Opening) -> str:
        return tried(self._module, case)


class LimitsOf(Part[dict[str, Any]]):
    """gothreads.Limits alone, with values of any kind."""

    name = "limits"

    def make(self, choose: random.Random) -> dict[str, Any]:
        return {name: random_values.value(choose)
                for name in choose.sample(["memory", "threads", "stack"], choose.choice((1, 1, 3)))}

    def attempt(self, case: dict[str, Any]) -> str:
        try:
            gothreads.Limits(**case)
        except gothreads.MisuseError:
            return "refused"
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in case.values()):
            raise Finding("taken")
        return "taken"


PARTS: list[Part[Any]] = [Metadata(), Shown(), Mounts(), Settings(), LimitsOf()]


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main("stress.fuzz_open", PARTS, __doc__))
