"""Reads the top-level declarations of a Go file that the compiler has accepted: enough for signatures, and no more.

Go's own parser would do the same, but it is a Go program: compiling it for this machine took two thirds of the first
build's time. `tests/build/test_signatures.py` compares the two on the files of Go's standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKEN = re.compile(r"""
    (?P<space>[ \t\r]+)
  | (?P<newline>\n)
  | (?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))
  | (?P<string>`[^`]*+`|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)++')
  | (?P<word>[^\W\d]\w*)
  | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*+)
  | (?P<sign>\.\.\.|<-|<<=?|>>=?|&\^=?|&&|\|\||\+\+|--|[-+*/%&|^=!<>:]=|[-+*/%&|^=!<>:.,;()\[\]{}~])
""", re.VERBOSE)
#: After these tokens, the end of a line ends a statement (https://go.dev/ref/spec#Semicolons).
_ENDING_SIGNS = frozenset((")", "]", "}", "++", "--"))
_CONTINUING_WORDS = frozenset(("case", "chan", "const", "default", "defer", "else", "for", "func", "go", "goto", "if",
                               "import", "interface",
                               "map", "package", "range", "select", "struct", "switch", "type", "var"))
_CLOSING = {"(": ")", "[": "]", "{": "}"}
#: A line of a comment that is for tools: no documentation.
_DIRECTIVE = re.compile(r"//(?:line |extern |export |[a-z0-9]+:[a-z0-9])")

#: The tokens of a type, or of another part of a declaration, as they are in the file.
Tokens = Sequence[str]


class SourceError(ValueError):
    """The text is not a Go file."""


class Comment(NamedTuple):
    """A comment. `trails`: it stands on the line on which the declaration before it ends."""

    text: str
    line: int
    last_line: int
    trails: bool


@dataclass
class Declaration:
    """A top-level declaration: its tokens, without the semicolon that ends it, and the comments before it."""

    line: int
    comments: list[Comment]
    tokens: list[str] = field(default_factory=list)


class Parameter(NamedTuple):
    """A parameter or result. `name` is empty if it has none."""

    name: str
    type: Tokens


@dataclass(frozen=True)
class Function:
    """A function without a receiver and type parameters."""

    name: str
    params: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    has_body: bool

    @property
    def text(self) -> str:
        """The declaration on one line, without the body."""
        results = _fields(self.results)
        if len(self.results) > 1 or (self.results and self.results[0].name):
            results = f"({results})"
        return f"func {self.name}({_fields(self.params)})" + (f" {results}" if self.results else "")


def declarations(source: str) -> tuple[str, list[Declaration]]:
    """The package's name, and the file's declarations. SourceError if the text is not a Go file."""
    found = list(_split(source))
    match found:
        case [Declaration(tokens=["package", name]), *rest]:
            return name, rest
    raise SourceError("no package clause")


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(source: str) -> Iterator[_Token]:
    """The comments and tokens, with the semicolons that ends of lines stand for."""
    source, at, line, ends = source.removeprefix("\ufeff") + "\n", 0, 1, False  # ends: a newline here ends a statement
    while at < len(source):
        if (found := _TOKEN.match(source, at)) is None or found.lastgroup is None:
            raise SourceError(f"line {line}: no Go token")
        kind, text, at = found.lastgroup, found[0], found.end()
        if ends and (kind == "newline" or (kind == "comment" and (text.startswith("//") or "\n" in text))):
            yield _Token("sign", ";", line)
            ends = False
        if kind not in ("space", "newline"):
            yield _Token(kind, text, line)
        if kind not in ("space", "newline", "comment"):
            ends = text in _ENDING_SIGNS if kind == "sign" else text not in _CONTINUING_WORDS
        line += text.count("\n")


def _split(source: str) -> Iterator[Declaration]:
    brackets: list[str] = []  # the closing brackets that must follow
    comments: list[Comment] = []
    current: Declaration | None = None
    ended = 0  # the line of the last token
    for kind, text, line in _tokens(source):
        last_line = line + text.count("\n")
        if kind == "comment":
            if current is None:
                comments.append(Comment(text, line, last_line, line == ended))
            continue
        ended = last_line
        if text == ";" and not brackets:
            if current is not None:
                yield current
            current = None
            continue
        if current is None:
            current, comments = Declaration(line, comments), []
        current.tokens.append(text)
        if text in _CLOSING:
            brackets.append(_CLOSING[text])
        elif text in _CLOSING.values() and (not brackets or brackets.pop() != text):
            raise SourceError(f"line {line}: a {text} without its beginning")
    if brackets or current is not None:
        raise SourceError("the file ends within a declaration")


def types(declared: Declaration) -> Iterator[tuple[str, Tokens]]:
    """The types of a `type` declaration, by name. Of types with parameters, the parameters are part of the type."""
    match declared.tokens:
        case ["type", "(", *specs, ")"]:
            yield from ((name, _unaliased(rest)) for name, *rest in _parts(specs, ";") if rest)
        case ["type", name, *rest]:
            yield name, _unaliased(rest)


def _unaliased(tokens: list[str]) -> list[str]:
    return tokens[1:] if tokens[:1] == ["="] else tokens


def function(declared: Declaration) -> Function | None:
    """The function that is declared; None if it is something else, a method, or generic."""
    match declared.tokens:
        case ["func", name, "(", *rest] if _is_name(name):
            end = _closing(rest)
        case _:
            return None
    params, rest = rest[:end], rest[end + 1:]
    body = next((at for at, token, depth in _depths(rest)
                 if token == "{" and depth == 0 and rest[at - 1:at] not in (["struct"], ["interface"])), None)
    result = rest[:body]
    if result[:1] == ["("] and _closing(result[1:]) == len(result) - 2:
        result = result[1:-1]
    return Function(name, _parameters(params), _parameters(result), body is not None)


def _parameters(tokens: Tokens) -> tuple[Parameter, ...]:
    """A list of parameters: all with names, which may share a type (`a, b int32`), or all without."""
    entries = list(_parts(tokens, ","))
    if not any(_has_name(entry) for entry in entries):
        return tuple(Parameter("", entry) for entry in entries)
    kind: Tokens = ()
    found = []
    for entry in reversed(entries):
        kind = entry[1:] or kind
        found.append(Parameter(entry[0], kind))
    return tuple(reversed(found))


def _has_name(entry: Tokens) -> bool:
    """Whether an entry of a list of parameters is a name and a type, and not a type or a name alone."""
    if len(entry) < 2 or not _is_name(entry[0]) or entry[1] == ".":
        return False
    return entry[1] != "[" or _closing(entry[2:]) + 3 < len(entry)  # p [4]int, but not Generic[int]


def _is_name(token: str) -> bool:
    return token.isidentifier() and token not in _CONTINUING_WORDS


def _depths(tokens: Tokens) -> Iterator[tuple[int, str, int]]:
    """Each token with its index, and how many brackets it is in. A bracket counts as outside of itself."""
    depth = 0
    for at, token in enumerate(tokens):
        if token in _CLOSING.values():
            depth -= 1
        yield at, token, depth
        if token in _CLOSING:
            depth += 1


def _closing(tokens: Tokens) -> int:
    """The index of the closing bracket to one just before these tokens."""
    return next(at for at, _, depth in _depths(tokens) if depth < 0)


def _parts(tokens: Tokens, separator: str) -> Iterator[list[str]]:
    """The parts between separators that are not in brackets, without empty ones."""
    part: list[str] = []
    for _, token, depth in _depths(tokens):
        if token == separator and depth == 0:
            if part:
                yield part
            part = []
        else:
            part.append(token)
    if part:
        yield part


def documentation(declared: Declaration) -> str:
    """The comment that ends on the line before the declaration, as go doc has it: without markers and directives."""
    group: list[Comment] = []
    line = declared.line
    for comment in reversed(declared.comments):
        if comment.last_line < line - 1 or comment.trails:
            break
        group.insert(0, comment)
        line = comment.line
    lines: list[str] = []
    for comment in group:
        if comment.text.startswith("/*"):
            lines += comment.text[2:-2].split("\n")
        elif not _DIRECTIVE.match(comment.text):
            lines.append(comment.text[2:].removeprefix(" "))
    kept: list[str] = []
    for text in map(str.rstrip, lines):
        if text or (kept and kept[-1]):
            kept.append(text)
    return "\n".join(kept).rstrip("\n") + "\n" if kept else ""


def text_of(tokens: Tokens) -> str:
    """A type on one line, as Go's types.ExprString has it. (Tags of struct fields are left out.)"""
    text, previous = "", ""
    for at, token in enumerate(tokens):
        if token[0] in "`\"" or (token == ";" and tokens[at + 1:at + 2] in (["}"], [])):
            continue
        text += (" " if previous and _apart(tokens, at, previous) else "") + token
        previous = token
    return text


def _apart(tokens: Tokens, at: int, previous: str) -> bool:
    """Whether a space belongs between a token and the one before."""
    token = tokens[at]
    if previous in (",", ";"):
        return True
    if token in ",;)]}." or previous in ("(", "[", "{", ".", "*", "...", "]", "~") or token == "{":
        return False
    if token == "<-" or previous == "<-":
        return previous == "<-" and tokens[at - 2:at - 1] == ["chan"]
    if token == "[":
        if not _is_name(previous):
            return previous == ")"
        return tokens[at + 1 + _closing(tokens[at + 1:]) + 1:][:1] not in ([], [","], [";"], [")"], ["]"], ["}"])
    if token == "(":
        return previous == ")"
    return True


def _fields(fields: Iterable[Parameter]) -> str:
    """Parameters on one line. Those that share the tokens of a type are written together."""
    text, shared = "", None
    for at, (name, kind) in enumerate(fields := list(fields)):
        follows = fields[at + 1].type if at + 1 < len(fields) and name else None
        shared = text_of(kind) if follows is not kind else ""
        text += ", " * (at > 0) + " ".join(filter(None, (name, shared)))
    return text
