"""Extracts the code of a Markdown page, and runs it as a reader would: block after block, in one folder.

How a block is run depends on its language, its first line, and the line before it:

- `go`, `c`, `toml`, … with a first line such as `// shop.go`: written to that file. So is `python` with `# host.py`.
- Other `python`: all blocks of a page run in one interpreter, as in a notebook. Where each `print(…)` is followed by a
  comment, the comments are what is printed.
- `sh`: run by bash, but for lines that make the environment, which the tests have: `git`, `pip install`, `python3 -m
venv`.
- `text` after `<!-- prints -->`: what the block before it has printed. `…` stands for anything.
- `text` after `<!-- from FILE FILE -->`: lines of these files.
- After `<!-- server -->`, a shell block runs in the background until the page ends. The next block runs when it
listens, and, after `<!-- server, ready at "TEXT" -->`, has printed the text.
- After `<!-- notebook -->`, a Python block may use await.
- After a line `*Not run by the tests: REASON.*`, which readers see, only the syntax is checked.

Ports 8080, 8081, 8082 and 8000 become free ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.toolchain import find_go
from tests.support.modules import ROOT

_FENCE = re.compile(r"(?:^(?P<before>[^\n`]+)\n\n?)?^```(?P<language>\w*)\n(?P<source>.*?)^```$",
                    re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?://|#|/\*) ([\w./-]+\.\w+)(?: \*/)?\n")
_NOT_RUN = re.compile(r"\*Not run by the tests: (.+)\.\*")
_FROM = re.compile(r"<!-- from ([\w./ -]+) -->")
_SERVER = re.compile(r'<!-- server(?:, ready at "(?P<ready>[^"]+)")? -->')
_PRINTED = re.compile(r"^\s*print\(.*\)\s+# (.*)$", re.MULTILINE)

#: Runs Python blocks, each given as a line of JSON; answers with "ok", or the traceback, on descriptor 3.
_INTERPRETER = """
import ast, asyncio, inspect, json, os, sys, traceback
answers = os.fdopen(int(sys.argv.pop()), "w")
names, loop = {"__name__": "__main__"}, asyncio.new_event_loop()
for line in sys.stdin:
    source, place, notebook = json.loads(line)
    try:
        code = compile(source, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if notebook else 0)
        result = eval(code, names)
        if inspect.isawaitable(result):
            loop.run_until_complete(result)
        answer = "ok"
    except BaseException:
        answer = traceback.format_exc()
    sys.stdout.flush()
    print(json.dumps(answer), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Snippet:
    """One block. `before`: the line before it, which may say how it is run."""

    place: str
    language: str
    source: str
    before: str

    @property
    def file(self) -> str | None:
        """The file that the block is to be kept in."""
        found = _FILE.match(self.source)
        return found[1] if found else None

    @property
    def not_run(self) -> bool:
        return _NOT_RUN.search(self.before) is not None


def snippets(page: Path) -> list[Snippet]:
    """The blocks of a page."""
    text = page.read_text()
    return [Snippet(f"{page.relative_to(ROOT)}, line {text.count(chr(10), 0, found.start('language')) + 1}",
                    found["language"], found["source"],
                    found["before"] or "") for found in _FENCE.finditer(text)]


def check_syntax(snippet: Snippet) -> None:
    """Check what can be checked of a block without running it."""
    if snippet.language == "python":
        compile(snippet.source, snippet.place, "exec")
    elif snippet.language == "sh":
        subprocess.run(["bash", "-n"], input=snippet.source, text=True, check=True)
    elif snippet.language == "go":
        subprocess.run([find_go(None).goroot / "bin" / "gofmt"], input=snippet.source, text=True, check=True,
                       capture_output=True)
    elif snippet.language == "toml":
        tomllib.loads(snippet.source)
    elif snippet.language == "dockerfile":
        lines = re.sub(r"\\\n", "", snippet.source).splitlines()
        assert [line for line in lines if line
                and not re.match(r"(FROM|RUN|COPY|WORKDIR|ENV|USER|EXPOSE|CMD|ENTRYPOINT) \S|#",
                                 line)] == [], snippet.place
    else:
        assert snippet.language in ("text", "ini"), f"{snippet.place}: no syntax check for {snippet.language!r}"


#: The ports on pages. A page has one server at each.
PORTS = ("8000", "8080", "8081", "8082", "8083", "8084", "8085")


class Session:
    """Runs the blocks of one page in a folder. What they print goes to the file `log`."""

    def __init__(self, folder: Path, log: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._log = log
        self._ports = {port: str(_free_port()) for port in PORTS}
        self._servers: list[subprocess.Popen[bytes]] = []
        self._printed = ""
        self._output = open(self._log, "w+b")  # noqa: SIM115  (closed in close)
        self._python: subprocess.Popen[str] | None = None
        # What a shell in a clone with an activated environment has. And pip builds wheels with the setuptools of the
        # tests ("no" means so: no isolation), where a reader's downloads one.
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        self._environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                              "PIP_NO_BUILD_ISOLATION": "no", **variables}
        for part in ("examples", "docs"):
            if not (folder / part).exists():
                (folder / part).symlink_to(ROOT / part)

    def run(self, snippet: Snippet) -> None:
        """Run one block; AssertionError if it fails, or prints something else than the page says."""
        source = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda port: self._ports[port[1]], snippet.source)
        if snippet.not_run:
            check_syntax(snippet)
        elif snippet.language in ("", "text"):
            if "<!-- prints -->" in snippet.before:
                _check_printed(snippet.place, source, self._printed)
            elif files := _FROM.search(snippet.before):
                _check_copied(snippet, files[1].split())
        elif snippet.file:
            _write(self._folder / snippet.file, source)
        elif snippet.language == "python":
            self._run_python(snippet, source)
        elif snippet.language == "sh":
            self._run_shell(snippet, source)
        else:
            raise AssertionError(f"{snippet.place}: how is {snippet.language!r} run?")

    def close(self) -> None:
        for server in reversed(self._servers):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                raise
        if self._python is not None:
            assert self._python.stdin is not None
            self._python.stdin.close()
            try:
                self._python.wait(20)
            finally:
                self._python.kill()
        self._output.close()

    def _run_python(self, snippet: Snippet, source: str) -> None:
        if self._python is None:
            read, write = os.pipe()
            self._python = subprocess.Popen([sys.executable, "-c", _INTERPRETER, str(write)], cwd=self._folder,
                                            env=self._environment,
                                            stdin=subprocess.PIPE, stdout=self._output, text=True, pass_fds=[write])
            os.close(write)
            self._answers = os.fdopen(read)
        begin = self._output.seek(0, os.SEEK_END)
        assert self._python.stdin is not None
        self._python.stdin.write(json.dumps([source, snippet.place, "<!-- notebook -->" in snippet.before]) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._answers.readline() or json.dumps("the interpreter has ended"))
        self._output.seek(begin)
        self._printed = self._output.read().decode()
        assert answer == "ok", f"{snippet.place}:\n{answer}"
        if expected := _PRINTED.findall(snippet.source):
            _check_printed(snippet.place, "\n".join(expected), self._printed)

    def _run_shell(self, snippet: Snippet, source: str) -> None:
        source = re.sub(r"(?m)^(pip install|git|cd gothreads|python3 -m venv|sudo)\b.*?(&& "
                        r"(?=gothreads|pytest|python)|$)", "", source)
        if server := _SERVER.search(snippet.before):
            self._serve(source, server["ready"] or "")
            return
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", source], cwd=self._folder, env=self._environment,
                              stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=200)
        self._printed = done.stdout
        assert done.returncode == 0, f"{snippet.place}:\n{done.stdout}{done.stderr}"

    def _serve(self, source: str, ready: str) -> None:
        port = next((port for port in self._ports.values() if port in source), None)
        if port is None:  # the command's own default
            port = self._ports["8080"]
            source = source.replace("gothreads serve", f"gothreads serve --port {port}")
        assert not _answers(int(port)), f"{source}: the page has a server at its port already"
        server = subprocess.Popen(["bash", "-c", f"exec {source.strip()}"], cwd=self._folder, env=self._environment,
                                  stdin=subprocess.DEVNULL,
                                  stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True)
        self._servers.append(server)
        end = time.monotonic() + 200
        while not (_answers(int(port)) and ready in self._log.read_text()):
            assert server.poll() is None, f"{source}\n{self._tail()}"
            assert time.monotonic() < end, f"{source}: not ready on port {port}\n{self._tail()}"
            time.sleep(0.05)

    def _tail(self) -> str:
        return self._log.read_text()[-2000:]


@contextlib.contextmanager
def session(folder: Path, log: Path, variables: Mapping[str, str]) -> Iterator[Session]:
    """To run the blocks of a page in this folder, with further environment variables."""
    running = Session(folder, log, variables)
    try:
        yield running
    finally:
        running.close()


def needs_curl(page: Path) -> bool:
    return shutil.which("curl") is None and "\ncurl " in page.read_text()


def _write(path: Path, text: str) -> None:
    """Write a file, unless it has this content: then Go need not compile it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _check_printed(place: str, expected: str, printed: str) -> None:
    pattern = r"[\s\S]*".join(re.escape(part) for part in expected.strip().split("…"))
    assert re.fullmatch(pattern,
                        printed.strip()), f"{place}:\n{expected.strip()}\nis not what is printed:\n{printed.strip()}"


def _check_copied(snippet: Snippet, files: list[str]) -> None:
    there = {line.strip() for file in files for line in (ROOT / file).read_text().splitlines()} | {"…"}
    assert [line for line in snippet.source.splitlines() if line.strip() not in there] == [], (
        f"{snippet.place}: not in {', '.join(files)}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
