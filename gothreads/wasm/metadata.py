"""The custom section `gothreads`: a module's description of itself, in JSON. It is not trusted, so it is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gothreads.errors import ModuleError
from gothreads.wasm.signature import ImportSignature, Signature

SECTION = "gothreads"
#: The version of the interface between module and host. It increases with each incompatible change.
ABI = 6
#: What a module is built for: threads, or one thread at a time, as stock Go.
THREADED, SINGLE = BUILD_MODELS = ("threaded", "single")
BUILD_MODES = ("exe", "c-shared")
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Metadata:
    """What a module says about itself. Immutable: any thread may read it.

    handlers: whether the program itself uses gothreads/guest.
    options: the build's options, such as preemption.
    imports: all that the source declares, including those that the linker has dropped because nothing calls them.
    typed: describes the functions that //gothreads:export exports, for typed/schema.py, which checks it.
    """

    version: str
    go: str
    model: str
    buildmode: str
    handlers: bool
    exports: tuple[Signature, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[ImportSignature, ...] = ()
    abi: int = ABI
    typed: Mapping[str, Any] | None = None

    @property
    def threaded(self) -> bool:
        return self.model == THREADED

    @property
    def optimized(self) -> bool:
        """Whether functions have fast bodies."""
        return self.options.get("optimize") is True

    def encode(self) -> bytes:
        typed = {} if self.typed is None else {"typed": self.typed}
        return json.dumps({"abi": self.abi, "version": self.version, "go": self.go, "model": self.model,
                           "buildmode": self.buildmode,
                           "handlers": self.handlers, "options": dict(self.options),
                           "exports": [e.to_json() for e in self.exports],
                           "imports": [i.to_json() for i in self.imports], **typed}).encode()


def decode(content: bytes) -> Metadata:
    """The metadata of a section. Raises ModuleError when it is malformed, or from an incompatible gothreads."""
    try:
        if len(content) > _LARGEST:
            raise ValueError("it is too large")
        fields = json.loads(content)
        if not isinstance(fields, dict):
            raise ValueError("it is not an object")
        if fields.get("abi") != ABI:
            raise ModuleError(f"the module was built by gothreads {fields.get('version')!r:.40} (module format "
                              f"{fields.get('abi')!r:.20}), which this gothreads (format {ABI}) cannot run. Rebuild "
                              f"it: gothreads build")
        for key, kind in (("version", str), ("go", str), ("model", str), ("buildmode", str), ("handlers", bool),
                          ("options", dict), ("exports", list),
                          ("imports", list)):
            if not isinstance(fields.get(key), kind):
                raise ValueError(f"{key!r} is missing, or not a {kind.__name__}")
        if not isinstance(fields.get("typed"), dict | None):
            raise ValueError("'typed' is not an object")
        if not (fields["version"] + fields["go"]).isprintable():  # they are displayed
            raise ValueError("the version of gothreads or Go is not printable")
        if fields["model"] not in BUILD_MODELS or fields["buildmode"] not in BUILD_MODES:
            raise ValueError("the model or the build mode is not known")
        return Metadata(fields["version"], fields["go"], fields["model"], fields["buildmode"], fields["handlers"],
                        tuple(map(Signature.from_json, fields["exports"])), fields["options"],
                        tuple(map(ImportSignature.from_json, fields["imports"])), typed=fields.get("typed"))
    except (ValueError, RecursionError) as error:
        raise ModuleError(f"the module's section 'gothreads' is malformed: {error}") from None
