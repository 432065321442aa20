"""Files with a module and its machine code (.cwasm), which are opened without compiling: for container images.

    magic, a line │ header, a line of JSON │ the module │ its machine code

Machine code can do whatever this process can, and wasmtime does not check it. So nothing of such a file is looked at
unless the user trusts it: by its digest, the SHA-256 of the whole file, or without one. The header's checksum is
against damage only.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from dataclasses import asdict, dataclass
from importlib.metadata import version

from gothreads.errors import ModuleError

MAGIC = b"gothreads machine code 1\n"
#: True: trust the file, whatever it contains. A str: the file's digest.
Trust = bool | str


@dataclass(frozen=True)
class Precompiled:
    """Machine code of a module. `settings`: with which settings of gothreads it was compiled."""

    settings: str
    code: bytes


@dataclass(frozen=True)
class _Header:
    settings: str
    wasmtime: str
    machine: str
    wasm: int
    code: int
    crc: int


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pack(wasm: bytes, precompiled: Precompiled) -> bytes:
    """The content of a file."""
    body = wasm + precompiled.code
    header = _Header(precompiled.settings, version("wasmtime"), _machine(), len(wasm), len(precompiled.code),
                     zlib.crc32(body))
    return MAGIC + json.dumps(asdict(header)).encode() + b"\n" + body


def unpack(content: bytes, trust: Trust) -> tuple[bytes, Precompiled]:
    """The module and its machine code. ModuleError: the file is not trusted, damaged, or for another machine."""
    digest = digest_of(content)
    if trust is False or trust == "":
        raise ModuleError("it holds machine code, which can do whatever this process can. If it is yours, trust it: "
                          f"trust=\"{digest}\" (or trust=True, whatever it contains); on the command line, --trust. "
                          "Otherwise open the module that it was compiled from")
    if trust is not True and trust.lower() != digest:
        raise ModuleError(f"its digest is {digest}, and {trust} is trusted: it is not the file that is meant. "
                          "Compile it again: gothreads compile")
    line, _, body = content[len(MAGIC):].partition(b"\n")
    try:
        header = _Header(**json.loads(line))
        whole = (header.wasm + header.code, header.crc) == (len(body), zlib.crc32(body))
    except (ValueError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ModuleError("it is damaged, or not complete. Compile it again: gothreads compile")
    for name, theirs, ours in (("wasmtime", header.wasmtime, version("wasmtime")),
                               ("machine", header.machine, _machine())):
        if theirs != ours:
            raise ModuleError(f"it was compiled for the {name} {theirs}, and this is {ours}. "
                              "Compile it again here: gothreads compile")
    return body[:header.wasm], Precompiled(header.settings, body[header.wasm:])


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}"
