"""What `open` takes for a module: a path, its bytes, or a resource of a Python package, which may be in a zip file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from gothreads.errors import MisuseError, ModuleError
from gothreads.text import cut

#: What users may give.
ModuleSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Traversable


@dataclass(frozen=True)
class Content:
    """The content of a module file. `name` is for messages, and the program's name in the module."""

    name: str
    content: bytes


def source_of(given: ModuleSource | Content) -> str | os.PathLike[str] | Content:
    """A path, or the content of a file. ModuleError if it cannot be read, MisuseError for values of other types."""
    if isinstance(given, str | os.PathLike | Content):
        return given
    if isinstance(given, bytes | bytearray | memoryview):
        return Content("module.wasm", bytes(given))
    if not isinstance(given, Traversable):
        raise MisuseError("a module is opened by its path, its bytes, or a resource (importlib.resources.files), "
                          f"not by {cut(given)}")
    try:
        if given.is_dir():
            raise ModuleError(f"{given} is a folder in an archive. Go packages can be built from folders on disk only: "
                              "importlib.resources.as_file")
        return Content(given.name, given.read_bytes())
    except (OSError, KeyError) as error:  # KeyError: zipfile
        raise ModuleError(f"cannot read {given}: {error.args[-1] if error.args else error}") from error
