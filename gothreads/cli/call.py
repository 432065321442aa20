"""`gothreads call`: calls one export or handler, and prints its result. Without a name it lists what can be called."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gothreads.cli.aside import aside
from gothreads.cli.command import Command
from gothreads.cli.inspect import print_exports
from gothreads.cli.module_options import add_model_options, add_run_options, lines_ended, open_module
from gothreads.cli.values import parse_seconds
from gothreads.errors import MisuseError, UnknownExport, unknown
from gothreads.output.terminal import Terminal
from gothreads.runtime.app import App

if TYPE_CHECKING:
    from gothreads.typed.functions import TypedFunction
    from gothreads.typed.streams import JsonStream


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE", help="a module, or a Go package, which is built first")
    parser.add_argument("export", metavar="[EXPORT|HANDLER]",
                        help="what to call; without it, the exports and handlers are listed")
    parser.add_argument("args", nargs="*", default=[], metavar="ARG",
                        help="arguments of the export (of a typed function: JSON, and texts as they are), or the "
                             "handler's payload")
    parser.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    parser.add_argument("--timeout", type=parse_seconds, metavar="S",
                        help="end the module after S seconds (default: no timeout)")
    parser.add_argument("--bytes", action="store_true",
                        help="for modules not built from Go: the result, an i64, is address << 32 | length; print the "
                             "bytes there")
    add_model_options(parser)
    add_run_options(parser)
    parser.set_defaults(no_calls=False)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    texts, arguments.args = tuple(arguments.args), []
    # Standard output is for the result: what main and Python functions print goes to standard error.
    with contextlib.redirect_stdout(sys.stderr), open(2, "wb", buffering=0, closefd=False) as errors, \
            open_module(arguments, terminal, callers=2, stdout=errors) as app, \
            lines_ended(app, terminal, stdout_is_shown=True):
        if not arguments.export:
            _list(app, arguments, terminal)
        elif arguments.export in app.exports:
            _call(app, texts, arguments, terminal)
        elif (typed := app._typed_function(arguments.export)) is not None:
            _call_typed(typed, texts, arguments, terminal)
        else:
            _request(app, texts, arguments, terminal)
    return 0


def _list(app: App, arguments: argparse.Namespace, terminal: Terminal) -> None:
    handlers = aside(app.handlers)
    if arguments.json:
        typed = {"typed": [app.functions[name].to_json() for name in app.functions]} if app.loaded.has_typed else {}
        terminal.data({"exports": [asdict(export.signature) for export in app.loaded.exports], **typed,
                       "handlers": handlers})
        return
    print_exports(app.loaded, terminal)
    if handlers:
        terminal.out("handlers:")
    for handler in handlers:
        terminal.out(f"  {handler}")


def _call(app: App, texts: tuple[str, ...], arguments: argparse.Namespace, terminal: Terminal) -> None:
    target = app.exports[arguments.export]
    parsed = next(export for export in app.loaded.exports if export.name == arguments.export).parse(texts)
    if arguments.bytes:
        _write_bytes(aside(lambda: target.bytes(*parsed, **_limit(arguments))), arguments, terminal)
        return
    result = aside(lambda: target(*parsed, **_limit(arguments)))
    if arguments.json:
        # As `gothreads serve` does: JSON has no number for NaN and infinity.
        terminal.data(str(result) if isinstance(result, float) and not math.isfinite(result) else result)
    elif result is not None:
        terminal.out(str(result).lower() if isinstance(result, bool) else str(result))


def _call_typed(function: TypedFunction, texts: tuple[str, ...], arguments: argparse.Namespace,
                terminal: Terminal) -> None:
    future = function.submit_json(function.json_of_texts(texts), _limit(arguments))
    encoded = aside(future.result)
    if not isinstance(encoded, bytes):
        _print_items(encoded, terminal)
        return
    result = json.loads(encoded)
    if arguments.json:
        terminal.data(result)
    elif [kind.shape for kind in function.schema.results] == ["bytes"]:
        _write_bytes(base64.b64decode(result), arguments, terminal)
    elif result is not None:
        terminal.out(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))


def _print_items(items: JsonStream, terminal: Terminal) -> None:
    """Print the items of an iterator as they come, each as a line of JSON."""
    def show() -> None:
        for item in items:
            terminal.out(item.decode())
    with items:
        aside(show)


def _request(app: App, texts: tuple[str, ...], arguments: argparse.Namespace, terminal: Terminal) -> None:
    name = arguments.export
    handlers = aside(lambda: app._listed(app._here_or_on_a_worker, name))
    if name not in handlers:
        if name in app.loaded.uncallable:
            app.exports[name]  # raises the reason
        error = unknown("export or handler", name, [*app.exports, *app.functions, *handlers])
        raise UnknownExport(error.message, error.known, app._why_unknown(name, error.known))
    if len(texts) > 1:
        raise MisuseError(f"the handler {name} takes one payload, {len(texts)} given")
    payload = _payload(texts[0] if texts else None)
    reply = aside(lambda: app.request(name, payload, **_limit(arguments)))
    _write_bytes(reply, arguments, terminal)


def _limit(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the call."""
    return {} if arguments.timeout is None else {"timeout": arguments.timeout, "on_timeout": "stop"}


def _write_bytes(content: bytes, arguments: argparse.Namespace, terminal: Terminal) -> None:
    if arguments.json:
        terminal.data(content.decode(errors="replace"))
    elif hasattr(terminal.stdout, "buffer"):
        terminal.stdout.flush()
        terminal.stdout.buffer.write(content)
    else:
        terminal.stdout.write(content.decode(errors="replace"))
    if not arguments.json and content and not content.endswith(b"\n") and terminal.stdout.isatty():
        terminal.stdout.write("\n")  # for the shell's prompt; a pipe or a file gets the bytes as they are


def _payload(text: str | None) -> bytes:
    if text is None and sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read() if text in (None, "-") else os.fsencode(text or "")


CALL = Command("call", "call one export or handler, and print the result", """\
  gothreads call app.wasm                           lists the exports and handlers
  gothreads call app.wasm add 2 3
  gothreads call ./fit fit '[1, 2]' '[2, 4]' '{}'    a typed function: JSON, and texts as they are
  gothreads call ./app search '{"query": "go"}'     a handler and its payload (-: read from standard input)
  gothreads call app.wasm upper < FILE
  gothreads call --bytes strings.wasm upper hello   not built from Go: texts are passed as address and length
Standard output has the result only: what the module prints goes to standard error.""",
               add_arguments, run, own_arguments=2, last_is_optional=True)
