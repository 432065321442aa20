"""`gothreads keys new`: makes an API key for `gothreads serve --api-keys`."""

from __future__ import annotations

import argparse
import errno
import os

from gothreads.cli.command import Command
from gothreads.errors import MisuseError
from gothreads.files import reported
from gothreads.output.terminal import Terminal
from gothreads.serve.api_keys import line_of, new_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("new",), help="what to do")
    parser.add_argument("name", metavar="NAME", help="whose key it is")
    parser.add_argument("--file", metavar="FILE", required=True, help="add a line with the key's hash to this file")
    parser.add_argument("--right", action="append", default=[], metavar="RIGHT",
                        help="what it allows: call/NAME, request/NAME or signal/NAME, where NAME may have *; "
                        "metrics; inspect; restart; *: everything (default: everything)")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    key = new_key()
    line = line_of(arguments.name, key, arguments.right or ["*"])
    with reported(f"write {arguments.file}", MisuseError):
        # A single write at the end of the file: a server that reads it meanwhile sees all of the line or nothing.
        file = os.open(arguments.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            begun = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            added = f"{chr(10) if begun else ''}{line}\n".encode()
            if os.write(file, added) != len(added):
                os.ftruncate(file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)
    terminal.say(f"{arguments.file} has its hash. The key itself is shown only now:")
    terminal.out(key)
    return 0


KEYS = Command("keys", "make API keys for gothreads serve", """\
  gothreads keys new ci --file keys.txt
  gothreads keys new ci --file keys.txt --right 'call/*' --right request/upper
  gothreads serve --api-keys keys.txt app.wasm
  curl -H "Authorization: Bearer $KEY" -d '{"args": [2, 3]}' localhost:8080/api/call/add""", add_arguments, run)
