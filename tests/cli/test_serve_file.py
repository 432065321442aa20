"""The file of `gothreads serve -c`: what is read, and what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import gothreads
from gothreads.cli.main import COMMANDS
from gothreads.cli.parser import parse
from gothreads.cli.serve import _given
from gothreads.cli.serve_file import APP_KEYS, read_file
from gothreads.cli.toml_lines import key_lines
from gothreads.runtime.keywords import definition
from gothreads.runtime.options import Limits
from gothreads.serve.served import NamedRoute
from gothreads.supervise.options import SuperviseOptions
from tests.support.command_line import command
from tests.support.keys import Keys
from tests.support.modules import ROOT
from tests.support.server import running
from tests.support.waiting import wait_until

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, beside which are a module that is none, and folders."""
    (tmp_path / "app.wasm").write_bytes(b"")
    (tmp_path / "data").mkdir()

    def write(text: str) -> Path:
        file = tmp_path / "apps.toml"
        file.write_text(text)
        return file
    return write


def test_all_options_that_a_file_can_have_are_keys() -> None:
    lacking = {name for name in definition(SuperviseOptions) if name not in APP_KEYS}
    assert lacking == {"stdin", "stdout", "stderr", "handlers", "imports", "loop", "progress", "backoff", "on_restart"}


def test_an_app_has_the_options_of_open_and_supervise(write: Write, tmp_path: Path) -> None:
    served = read_file(write("""
[server]
port = 9000
[apps.one]
module = "app.wasm"
args = ["-v"]
env = {HOME = "/"}
mounts = {"/data" = "data"}
limits = {memory = "64M", threads = 20, seconds = 1.5}
allow_net = ["example.org:443"]
timeout = 2.5
json_limit = "1M"
restart = "always"
save_every = 3
[[apps.one.routes]]
route = "POST /search"
handler = "search"
timeout = 1
[apps.two]
module = "./app.wasm"
mounts = ["data:/data:ro", "data:/"]
host = "two.example"
"""))
    assert served.server == {"port": 9000}
    one, two = served.apps
    assert (one.name, one.module, one.prefix, one.host) == ("one", str(tmp_path / "app.wasm"), "/one", None)
    assert one.open == {"args": ["-v"], "env": {"HOME": "/"}, "mounts": [gothreads.Mount(tmp_path / "data", "/data")],
                        "limits": Limits(memory=64 << 20, threads=20, seconds=1.5), "allow_net": ["example.org:443"],
                        "callers_timeout": 30}
    assert (one.calls, one.json_limit) == ({"timeout": 2.5}, 1 << 20)
    assert one.restart == {"restart": "always", "save_every": 3}
    assert one.routes == (NamedRoute("POST", "/search", "handler", "search", 1),)
    assert (two.prefix, two.host, two.restart, two.routes) == (None, "two.example", None, ())
    assert two.open["mounts"] == [gothreads.Mount(tmp_path / "data", "/data", read_only=True),
                                  gothreads.Mount(tmp_path / "data", "/")]


def test_keys_and_limits_are_an_apps_and_tls_is_the_servers(write: Write, tmp_path: Path) -> None:
    Keys(tmp_path / "keys").new("ci")
    served = read_file(write("""
[server]
uds = "http.sock"
tls_cert = "server.pem"
trust_proxy = ["10.1.2.3/8", "*"]
[apps.one]
module = "app.wasm"
api_keys = "keys"
max_calls = 3
max_client_calls = 1
"""))
    assert served.server == {"uds": str(tmp_path / "http.sock"), "tls_cert": str(tmp_path / "server.pem"),
                             "trust_proxy": ["10.0.0.0/8", "*"]}
    assert served.apps[0].calls == {"api_keys": str(tmp_path / "keys"), "max_calls": 3, "max_client_calls": 1}


def errors_of(file: Path) -> list[str]:
    code, out, err = command("serve", "--check", "-c", file)
    assert (code, out) == (1, "")
    return [line.removeprefix(f"gothreads: {file}:") for line in err.splitlines()]


def test_all_that_is_wrong_is_told_with_its_line_and_what_to_do(write: Write, tmp_path: Path) -> None:
    assert errors_of(write("""[server]
port = "8080"
prot = 1
[apps.one]
module = "nothing.wasm"
procs = [
    1,
]
timeout = 0
[apps.two]
modul = "app.wasm"
prefix = "two"
[[apps.two.routes]]
route = "GET /x"
handler = "x"
[[apps.two.routes]]
route = "POST /x"
[apps.three]
module = "app.wasm"
prefix = "/x/y"
host = "x.example"
save_every = 5
model = "many"
limits = {memroy = "1M"}
mounts = ["nowhere:/x"]
[app.four]
""")) == [
        "2: port must be a port, from 0 to 65535, not '8080'",
        "3: [server] has no key 'prot'. Did you mean port?",
        f"5: there is no file {tmp_path}/nothing.wasm",
        "6: procs must be an int, not [1]",
        "9: timeout must be a number of seconds above 0, not 0",
        '10: the app two has no module: a file, or a Go package, such as module = "./app"',
        "11: [apps.two] has no key 'modul'. Did you mean module?",
        "12: prefix must be a path such as \"/search\", not 'two'",
        '14: route must be POST, PUT, PATCH or DELETE, and a path, such as "POST /search", not \'GET /x\'',
        '16: a route leads to one export or one handler, such as handler = "search"',
        "21: an app has a prefix or a host, not both",
        "22: save_every needs restart, too",
        "23: there is no model 'many'; there are: threaded, single, idle, pool",
        "24: there is no limit 'memroy'; there are: memory, threads, stack, files, output, seconds",
        f"25: mounts: {tmp_path}/nowhere:/x: {tmp_path}/nowhere does not exist",
        "26: there is no table [app] in such a file; there are [server] and [apps.NAME]",
    ]


def test_what_is_wrong_with_keys_and_addresses_is_told(write: Write, tmp_path: Path) -> None:
    assert errors_of(write("""[server]
trust_proxy = ["10.0.0.0/33"]
fd = 2
allow_origin = ["example.org"]
allow_host = ["*"]
[apps.one]
module = "app.wasm"
api_keys = "nowhere"
max_calls = 0
[apps.two]
module = "app.wasm"
jwt_issuer = "https://id.example.org/"
""")) == [
        "2: '10.0.0.0/33' is neither an address nor a network, such as 10.0.0.0/8; nor *",
        "3: fd must be the number of a descriptor, 3 or more, not 2",
        "4: allow_origin: 'example.org' is not an origin; expected http:// or https:// and a name in lower case, with a "
        "port if there is one, such as https://app.example.org",
        "5: allow_host *: expected a name, without a port, such as app.example.org",
        f"8: cannot read the API keys in {tmp_path}/nowhere: No such file or directory. To make one: gothreads keys new "
        f"NAME --file {tmp_path}/nowhere",
        "9: max_calls must be at least 1, not 0",
        "10: jwt_keys, jwt_issuer and jwt_audience belong together; given: jwt_issuer. A token that is meant for another "
        "service must not be accepted here",
    ]


@pytest.mark.parametrize(("text", "said"), [
    ("", '1: there is no app in the file. Add one: [apps.NAME], with module = "./app"'),
    ("[apps.a]\nmodule = 'app.wasm'\nprefix = '/x'\n[apps.b]\nmodule = 'app.wasm'\nprefix = '/x/y'\n",
     "6: the prefix /x/y of b, and /x of a, overlap. Give one of them another"),
    ("[apps.a]\nmodule = 'app.wasm'\nhost = 'x.example'\n[apps.b]\nmodule = 'app.wasm'\nhost = 'X.example'\n",
     "6: the app a has the host X.example, too"),
    ("[apps.a]\nmodule = 'app.wasm'\nhost = 'x.example'\n[apps.b]\nmodule = 'app.wasm'\nhost = 'x.example.'\n",
     "6: the app a has the host x.example., too"),
    ("[apps.dashboard]\nmodule = 'app.wasm'\n",
     "1: /dashboard is a path of the server. Give the app dashboard another prefix"),
    *((f"[apps.'{name}']\nmodule = 'app.wasm'\n",
       f"1: '{name}' cannot be the name of an app, which has letters, digits and -._~ only")
      for name in ("{a:b}", "x{y}", "", "a/b", "two words")),
    ("[apps.api]\nmodule = 'app.wasm'\n", "1: /api is a path of the server. Give the app api another prefix"),
    ("apps.a.module = 'app.wasm'\napps.a.routes = [{route = 'POST /api/x', handler = 'x'}]\n",
     "2: /api/x is a path that each app has already"),
    ("[apps.a]\nmodule = 'app.wasm'\nprefix = '/'\nroutes = [{route = 'POST /bc', handler = 'x'}, {route = "
     "'PUT /b/x', handler = 'x'}]\n[apps.b]\nmodule = 'app.wasm'\n",
     "4: /b/x is under the prefix /b of b, which gets its requests. Give the route another path"),
])
def test_apps_that_hide_each_other_or_the_server_are_refused(write: Write, text: str, said: str) -> None:
    assert errors_of(write(text)) == [said]


def test_what_is_no_toml_is_told_with_its_line(write: Write) -> None:
    code, _, err = command("serve", "-c", write("[server]\nport = \n"))
    assert code == 1
    assert "not TOML: Invalid value (at line 2, column 8)" in err


def test_lines_are_those_in_which_statements_begin() -> None:
    lines = key_lines('# first\na.b = 1\n\n[c]\nd = [\n  1,\n  2,\n]\n[[e.f]]\ng = """\nx\n"""\n[[e.f]]\ng = {h = 1}\n')
    assert lines == {("a",): 2, ("a", "b"): 2, ("c",): 4, ("c", "d"): 5, ("c", "d", 0): 5, ("c", "d", 1): 5,
                     ("e",): 9, ("e", "f"): 9, ("e", "f", 0): 9, ("e", "f", 0, "g"): 10, ("e", "f", 1): 13,
                     ("e", "f", 1, "g"): 14, ("e", "f", 1, "g", "h"): 14}


def test_a_check_shows_what_would_be_served() -> None:
    file = ROOT / "examples" / "two-apps" / "gothreads.toml"
    folder = file.parent
    assert command("serve", "--check", "-c", file) == (0, (
        f"search   /search  {folder.parent / 'searchd'}\n"
        "         POST /search/find → handler search\n"
        f"counter  /count   {folder / 'counter'}\n"
        "         POST /count/next → export next\n"), "")
    code, out, _ = command("serve", "--check", "--json", "-c", file)
    assert code == 0
    assert json.loads(out)["apps"][1] == {
        "name": "counter", "at": "/count", "module": str(folder / "counter"), "model": None, "restart": "on-failure",
        "routes": [{"route": "POST /count/next", "to": "export next", "timeout": None}]}


def test_a_check_looks_into_modules(write: Write, calls: Path, tmp_path: Path) -> None:
    shutil.copy(calls, tmp_path / "calls.wasm")
    said = errors_of(write("[apps.a]\nmodule = 'app.wasm'\n[apps.b]\nmodule = 'calls.wasm'\n[[apps.b.routes]]\n"
                           "route = 'POST /x'\nexport = 'nothing'\n[apps.c]\nmodule = 'calls.wasm'\n"
                           "model = 'single'\n"))
    assert [line.partition(":")[0] for line in said] == ["2", "7", "9"]
    assert "the module has no export 'nothing'; it has: add, ask, " in said[1]
    assert "was built for the model threaded" in said[2]


def test_without_c_there_is_nothing_to_check(calls: Path) -> None:
    assert command("serve", "--check", calls) == (
        1, "", "gothreads: --check is for a file: gothreads serve --check -c FILE\n")


@pytest.mark.parametrize("options", [["-c", "{}"], ["-c{}"], ["--config", "{}"], ["--config={}"]])
def test_the_file_is_given_as_options_are(write: Write, options: list[str]) -> None:
    file = write("[apps.a]\n")
    code, _, said = command("serve", *(option.format(file) for option in options))
    assert (code, said.startswith(f"gothreads: {file}:1: the app a has no module")) == (1, True)


def test_what_concerns_one_app_is_for_the_file(write: Write) -> None:
    file = write("[apps.a]\nmodule = 'app.wasm'\n")
    assert command("serve", "-c", file, "--memory", "1G") == (
        1, "", "gothreads: with -c, --memory is for the file: it concerns one app\n")
    assert command("serve", "-c", file, "app.wasm") == (
        1, "", "gothreads: -c has the apps, so app.wasm is too much. To serve it by itself, leave out -c; to serve it "
               f"with the others, write it into {file}\n")
    assert command("serve")[0] == 2


def test_an_option_that_is_given_as_its_default_is_given() -> None:
    arguments = parse(COMMANDS, ["serve", "--port", "8080", "-c", "x.toml", "--host=127.0.0.1"])
    assert _given(arguments) == {"port": 8080, "host": "127.0.0.1"}


def test_options_of_the_server_take_precedence_over_the_files(write: Write, calls: Path, tmp_path: Path) -> None:
    shutil.copy(calls, tmp_path / "app.wasm")
    file = write("[server]\nport = 1\nallow_restart = true\n[apps.a]\nmodule = 'app.wasm'\ntimeout = 0.05\n"
                 "[apps.b]\nmodule = 'app.wasm'\nrestart = 'on-failure'\n")
    with running("-c", file) as server:  # with --port 0
        said = [server.process.stderr.readline() for _ in range(2)]  # type: ignore[union-attr]
        assert said == ["gothreads: a is at /a\n", "gothreads: b is at /b\n"]
        assert server.client.post("/a/api/call/sleep", json={"args": [10_000]}).status_code == 504
        assert server.client.post("/b/api/call/sleep", json={"args": [100]}).status_code == 200
        assert server.client.post("/api/apps/a/restart").status_code == 200
        server.client.post("/b/api/call/panics")
        assert server.client.post("/b/api/call/count").json() == {"result": 1}
        server.client.post("/a/api/call/exits", json={"args": [0]})
        wait_until(lambda: server.client.get("/a/livez").status_code == 503)
        assert server.client.get("/livez").status_code == 200
