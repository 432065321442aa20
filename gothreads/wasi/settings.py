"""The module's arguments, environment variables and mounts."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import wasmtime

from gothreads.errors import MisuseError
from gothreads.files import reason
from gothreads.text import cut, shown
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.hints import Hints
from gothreads.wasi.openat import PLACE
from gothreads.wasi.virtual_root import File, Root


@dataclass(frozen=True)
class Mount:
    """A host folder, or a single read-only file, that the module sees at path `guest`."""

    host: Path
    guest: str
    read_only: bool = False


@dataclass
class WasiSettings:
    """The module's arguments, environment variables and mounts. MisuseError if one of them is invalid.

    hints: what the log tells of those that are missing.
    simulate: the seed of a simulated program.
    """

    hints: Hints
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    simulate: int | None = None

    def __post_init__(self) -> None:
        for text in (*self.args, *self.env, *self.env.values()):
            if "\0" in text:
                raise MisuseError(f"arguments and environment variables cannot contain NUL: {cut(text)}")
            if not _is_unicode(text):
                raise MisuseError(f"arguments and environment variables must be valid Unicode: {cut(text)}")
        for mount in self.mounts:
            if "\0" in mount.guest or not _is_unicode(mount.guest):
                raise MisuseError(f"cannot mount anything at {cut(mount.guest)}: the path must be valid Unicode, "
                                  f"without NUL")
            if os.path.isdir(mount.host):
                continue
            if not os.path.isfile(mount.host):
                why = "it is neither a folder nor a file" if os.path.exists(mount.host) else "it does not exist"
                raise MisuseError(f"cannot mount {shown(str(mount.host))}: {why}")
            if not mount.read_only:
                raise MisuseError(f"cannot mount {shown(str(mount.host))}: a single file can only be mounted read-only "
                                  "(--mount HOST:GUEST:ro, Mount(..., read_only=True))")
            if not posixpath.normpath(mount.guest).strip("/"):
                raise MisuseError(f"cannot mount the file {shown(str(mount.host))} at {shown(mount.guest)}: it needs a "
                                  "name there, such as /file")
            outer = [other for other in self.mounts
                     if other is not mount and PurePosixPath(mount.guest).is_relative_to(other.guest)]
            if outer:
                raise MisuseError(f"cannot mount the file {shown(str(mount.host))} at {shown(mount.guest)}: "
                                  f"{shown(str(outer[0].host))}, mounted at {shown(outer[0].guest)}, covers that path")

    @property
    def working_folder(self) -> str:
        """The module's working folder."""
        return posixpath.join("/", self.env.get("PWD", ""))

    def local(self) -> wasmtime.WasiConfig:
        """wasmtime's configuration for the local calls of one thread's store."""
        config = wasmtime.WasiConfig()
        config.argv = list(self.args)
        config.env = list(self.env.items())
        return config

    def mount(self, table: DescriptorTable) -> Root:
        """Open the mounts in a descriptor table and, if nothing is mounted at "/", the virtual folders above them."""
        root, opened = Root(), [(PurePosixPath(mount.guest), self._opened(mount, table)) for mount in self.mounts]
        if any(not posixpath.normpath(guest).strip("/") for guest, _ in opened):
            return root
        for guest, leaf in sorted(opened, key=lambda one: len(one[0].parts)):  # an outer mount covers those inside it
            root.add(str(guest), leaf)
        root.add(self.working_folder)
        table.add(root.view())  # added last: Go starts in the first preopened folder
        return root

    @staticmethod
    def _opened(mount: Mount, table: DescriptorTable) -> Descriptor | File:
        is_file = os.path.isfile(mount.host)
        folder, name = os.path.split(os.path.realpath(mount.host)) if is_file else (str(mount.host), "")
        try:
            fd = os.open(folder, (PLACE if is_file else os.O_RDONLY) | os.O_DIRECTORY)
        except OSError as error:
            raise MisuseError(f"cannot mount {shown(str(mount.host))} at {shown(mount.guest)}: "
                              f"{reason(error)}") from None
        if is_file:
            return File(Descriptor(fd, table.stop, writable=False, read_only=True), os.fsencode(name))
        descriptor = Descriptor(fd, table.stop, writable=False, read_only=mount.read_only, preopen=mount.guest.encode())
        table.add(descriptor)
        return descriptor


def _is_unicode(text: str) -> bool:
    """Whether the text can be encoded as UTF-8: a Python str may contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
