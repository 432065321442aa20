"""Reads the signatures of exported and imported functions from Go source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.directives import meant_as_directives
from gothreads.build.go_source import (
    Comment,
    Declaration,
    Function,
    Tokens,
    declarations,
    documentation,
    function,
    text_of,
    types,
)
from gothreads.build.packages import path_from_here
from gothreads.errors import BuildError
from gothreads.files import reason
from gothreads.wasm.signature import ImportSignature, Parameter, Signature

_EXPORT, _IMPORT = "//go:wasmexport ", "//go:wasmimport "
#: The types of values that can cross to the host. Types of other packages, and all others, are "?".
_PREDECLARED = {name: name for name in ("bool", "int32", "uint32", "int64", "uint64", "float32", "float64", "uintptr",
                                        "unsafe.Pointer", "string")} | {"rune": "int32"}


@dataclass(frozen=True)
class Signatures:
    """The signatures of a program, sorted by name; imports by module first. warnings: of comments that were meant as
    directives.
    """

    exports: tuple[Signature, ...] = ()
    imports: tuple[ImportSignature, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    path: Path
    package: str
    declared: Sequence[Declaration]


def read_signatures(files: Sequence[Path]) -> Signatures:
    """The signatures of the functions that a program exports to its host, or imports from it.

    files: the Go source files of the program's packages, as the build selects them. Those that are not Go are skipped:
    the compiler reports them. Raises BuildError when a file cannot be read.
    """
    try:
        texts = {file: file.read_bytes() for file in files}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise BuildError(f"cannot read the signatures of exported and imported functions: "
                         f"{where}{reason(error)}") from error
    warnings = tuple(f"{path_from_here(path)}:{number}: {comment} is a comment for Go, so it exports and imports "
                     f"nothing: did you mean {meant}?"
                     for path, text in texts.items() for number, comment, meant in meant_as_directives(text))
    directives = [directive.strip().encode() for directive in (_EXPORT, _IMPORT)]
    folders = {file.parent for file, text in texts.items() if any(directive in text for directive in directives)}
    # The other files of a package may declare the types that these functions use.
    parsed = [read for file, text in texts.items()
              if file.parent in folders and (read := _parsed(file, text)) is not None]
    named: dict[tuple[Path, str], dict[str, Tokens]] = {}  # one folder may hold two packages, p and p_test
    for file in parsed:
        own = named.setdefault((file.path.parent, file.package), {})
        own.update(pair for each in file.declared for pair in types(each))
    exports: list[Signature] = []
    imports: list[ImportSignature] = []
    for file in parsed:
        for declared in file.declared:
            if (found := function(declared)) is None:
                continue
            # Like the compiler, accept directives anywhere between the previous declaration and this one: a blank line
            # may separate them from the function, and then they are not in the doc comment.
            exported = _directive(declared.comments, _EXPORT, 1)
            imported = _directive(declared.comments, _IMPORT, 2)
            if exported is not None:
                about = _described(found, declared, file, named[file.path.parent, file.package])
                exports.append(Signature(exported[0], *about))
            elif imported is not None and not found.has_body:
                about = _described(found, declared, file, named[file.path.parent, file.package])
                imports.append(ImportSignature(imported[1], *about, module=imported[0]))
    return Signatures(tuple(sorted(exports, key=lambda s: s.name)),
                      tuple(sorted(imports, key=lambda s: (s.module, s.name))), warnings)


def _parsed(path: Path, text: bytes) -> _File | None:
    try:
        return _File(path, *declarations(text.decode()))
    except ValueError:  # SourceError, or not UTF-8
        return None


def _directive(comments: Iterable[Comment], prefix: str, count: int) -> list[str] | None:
    """The words after the last directive with that prefix, if there is one. (The compiler rejects other counts.)"""
    found = [comment.text.removeprefix(prefix).split() for comment in comments if comment.text.startswith(prefix)]
    return next((words for words in reversed(found) if len(words) == count), None)


def _described(found: Function, declared: Declaration, file: _File, named: Mapping[str, Tokens]
               ) -> tuple[str, str, str, str, tuple[Parameter, ...], str | None, str]:
    """What a Signature has after its name."""
    params = tuple(Parameter(param.name if param.name not in ("", "_") else f"arg{at}", _resolved(param.type, named))
                   for at, param in enumerate(found.params))
    result = _resolved(found.results[0].type, named) if found.results else None  # Go exports and imports none with more
    place = f"{file.path.name}:{declared.line}"
    return found.text, found.name, file.package, documentation(declared), params, result, place


def _resolved(kind: Tokens, named: Mapping[str, Tokens]) -> str:
    """The type that decides how a value crosses to the host, found by following names. "?" if that is unknown."""
    for _ in range(len(named) + 1):  # a longer chain of names is a cycle: type A B; type B A
        while kind[:1] == ["("] and kind[-1] == ")":
            kind = kind[1:-1]
        if kind[:1] == ["*"]:
            return "pointer"
        name = text_of(kind)
        if name not in named:  # looked up first: a package may redeclare even int32
            return _PREDECLARED.get(name, "?")
        kind = named[name]
    return "?"
