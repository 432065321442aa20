"""The servers, and what their clients do.

Programs and libraries are Debian's (conformance/debian.py). Where Debian has only the library, the program that serves
with it is here, under gopath/. The clients are, too; they are native.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gothreads.errors import MisuseError


@dataclass(frozen=True)
class Server:
    """One server and its clients. In texts, {host} and {port} are where it listens, {other} is a second port of that
    host, and {folder} a folder of its own.

    `debian`: the package that has the library, and with `program` in it also the program; `needs`: packages that this
    one needs and does not name. `program`: its path in Debian's files, or in gopath/. `client`: the one of
    gopath/src/servers/clients. `files`: by name in the folder, what is written there first. `ends`: the exit code after
    SIGTERM.
    """

    name: str
    about: str
    exchange: str
    debian: str
    program: str
    client: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ("--listen", "{host}:{port}")
    client_arguments: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    host: str = "127.0.0.1"
    port: int | None = None  # that the program has; if None, any
    address: str = "{host}:{port}"  # where the clients connect to
    ends: int = 128 + 15     # SIGTERM without a handler

    @property
    def is_unchanged(self) -> bool:
        return not self.program.startswith(OWN)


OWN = "servers/"
_SOURCES = "gocode/src"

_NATS_CONFIGURATION = """\
server_name: broker
listen: "{host}:{port}"
mqtt {{ listen: "{host}:{other}" }}
jetstream {{ store_dir: "/store" }}
"""

SERVERS = (
    Server("chi", "HTTP router", "`GET /`", "golang-github-go-chi-chi-dev",
           f"{_SOURCES}/github.com/go-chi/chi/_examples/graceful", "http", host="127.94.0.1", port=3333, ends=0),
    Server("websocket", "WebSocket echo", "a message of up to 32 KB, there and back",
           "golang-github-gorilla-websocket-dev",
           "doc/golang-github-gorilla-websocket-dev/examples/echo/server.go", "websocket",
           arguments=("-addr", "{host}:{port}")),
    Server("grpc", "gRPC, unary", "`SayHello`", "golang-google-grpc-dev",
           f"{_SOURCES}/google.golang.org/grpc/examples/helloworld/greeter_server", "grpc",
           arguments=("-port", "{port}")),
    Server("grpc-streams", "gRPC, streams", "a call of each kind, 189 messages", "golang-google-grpc-dev",
           f"{_SOURCES}/google.golang.org/grpc/examples/route_guide/server", "routeguide",
           arguments=("-port", "{port}")),
    Server("dns", "DNS by UDP and TCP", "a question by UDP; each eighth, two more, one by TCP",
           "golang-github-miekg-dns-dev", f"{OWN}programs/dns", "dns",
           arguments=("{host}:{port}",), options=("--allow-net", "{host}:{port}")),
    Server("nats", "NATS broker", "a request to a queue of 64, and 20 messages to itself",
           "golang-github-nats-io-nats-server-dev", f"{_SOURCES}/github.com/nats-io/nats-server", "nats",
           needs=("golang-github-nats-io-go-nats-dev",), arguments=("-a", "{host}", "-p", "{port}")),
    Server("mqtt", "MQTT broker: NATS, with files", "a message with QoS 1 to itself",
           "golang-github-nats-io-nats-server-dev", f"{_SOURCES}/github.com/nats-io/nats-server", "mqtt",
           needs=("golang-github-eclipse-paho.mqtt.golang-dev",), files=(("nats.conf", _NATS_CONFIGURATION),),
           arguments=("-c", "{folder}/nats.conf"), address="{host}:{other}",
           options=("--listen", "{host}:{port}", "--listen", "{host}:{other}", "--mount", "{folder}:/store")),
    Server("proxy", "`httputil.ReverseProxy`", "a body of up to 512 KB, there and back", "", f"{OWN}programs/proxy",
           "proxy", arguments=("{host}:{port}", "http://{host}:{other}"),
           options=("--listen", "{host}:{port}", "--allow-net", "{host}:{other}"),
           client_arguments=("-backend", "{host}:{other}")),
    Server("ssh", "SSH server", "a session with up to 80 KB of input; each sixteenth, a new connection",
           "golang-github-gliderlabs-ssh-dev", f"{OWN}programs/ssh", "ssh",
           arguments=("{host}:{port}",)),
    Server("smtp", "SMTP server", "a connection, and a mail of 8 KB to two people",
           "golang-github-emersion-go-smtp-dev",
           f"{_SOURCES}/github.com/emersion/go-smtp/cmd/smtp-debug-server", "smtp",
           needs=("golang-github-emersion-go-sasl-dev",), arguments=("-l", "{host}:{port}")),
)


def select(names: Sequence[str]) -> list[Server]:
    """The servers with these names; all when there are no names. MisuseError for an unknown name."""
    known = {server.name: server for server in SERVERS}
    if unknown := [name for name in names if name not in known]:
        raise MisuseError(f"there is no server {unknown[0]!r}; there are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(SERVERS)
