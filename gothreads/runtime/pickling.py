"""Pickles an app as what it was opened with, so that another process can open it anew.

Memory, threads and sockets cannot travel. So what travels is the path, made absolute, and the options as they were
given. Each option is checked by itself, so that an error names the one that is in the way.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from gothreads.bridge.host_registry import Host
from gothreads.errors import MisuseError
from gothreads.runtime.module_source import Content
from gothreads.text import words
from gothreads.wasi.log_lines import LOGGERS

#: This module uses apps as a program does: close() in a signal handler that has interrupted it may wait
#: (runtime/own_code.py).
PROGRAM_CODE = True

#: Options that are file objects of this process, unless they are bytes, or loggers, which travel by their names.
_STREAMS = ("stdin", "stdout", "stderr")


@dataclass(frozen=True)
class PickledOptions:
    """`opener` is the function that was called: "gothreads.open", "gothreads.supervise", or `open` of a package.

    path: None if that function has none.
    """

    opener: str
    path: str | Content | None
    options: Mapping[str, Any]

    @classmethod
    def of(cls, opener: str, path: str | os.PathLike[str] | Content | None,
           options: Mapping[str, Any]) -> PickledOptions:
        """With the paths made absolute.

        A path that does not exist stays as it is: it is the import path of a package, or for Go to find.
        """
        options = dict(options)
        if isinstance(mounts := options.get("mounts", ()), Mapping):
            options["mounts"] = {guest: os.path.abspath(host) for guest, host in mounts.items()}
        elif mounts:
            options["mounts"] = [replace(mount, host=Path(os.path.abspath(mount.host))) for mount in mounts]
        if listen := options.get("listen"):
            options["listen"] = [f"unix:{os.path.abspath(where[5:])}" if where.startswith("unix:") else where
                                 for where in listen]
        if options.get("go") is not None:
            options["go"] = _absolute(options["go"])
        options.pop("progress", None)  # is for who waits here
        return cls(opener, path if path is None or isinstance(path, Content) else _absolute(path), options)

    def check(self, dumps: Callable[[Any], bytes] = pickle.dumps) -> None:
        """MisuseError with the name of the option that cannot travel, pickled by `dumps`."""
        for name, value in self.options.items():
            if name in _STREAMS and not isinstance(value, (bytes, type(None), *LOGGERS)):
                self._refuse(name, value, "is a file object of this process")
            if isinstance(value, asyncio.AbstractEventLoop):
                self._refuse(name, value, "runs in this process")
            for part, content in _parts(name, value):
                try:
                    dumps(content)
                except Exception as error:  # objects that cannot be pickled may raise anything
                    self._refuse(part, content, f"cannot be pickled ({words(error)})", function=callable(content))

    def _refuse(self, name: str, value: object, why: str, *, function: bool = False) -> NoReturn:
        hint = " A function travels when its module has it under its name." if function else ""
        module = self.path.name if isinstance(self.path, Content) else Path(self.path or self.opener).name
        raise MisuseError(f"{module}: an app travels to another process as what it was opened with, but its option "
                          f"{name}={value!r} {why}.{hint} Leave it out, or open the app there: "
                          f"{self.opener}(...)")


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path) if os.path.exists(path) else os.fspath(path)


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """The values to check by themselves: an option, or each function in its mapping."""
    if name in ("handlers", "imports") and isinstance(value, Mapping):
        return [(f"{name}[{key!r}]", function) for key, function in value.items()]
    if name == "host" and isinstance(value, Host):
        return [*_parts(name, value.functions), *_parts("handlers", value.handlers), *_parts("imports", value.imports),
                (name, value)]
    if name == "host" and isinstance(value, Mapping):
        return [(f"host[{module!r}][{key!r}]", function) for module, functions in value.items()
                for key, function in functions.items()]
    return [(name, value)]


def reopen(opener: str, path: object, options: Mapping[str, Any]) -> Any:
    """Called by unpickling. path: None if the opener takes none."""
    module, _, name = opener.rpartition(".")
    return getattr(importlib.import_module(module), name)(*(() if path is None else (path,)), **options)


class Picklable:
    """An app that can be pickled. Unpickling opens another with the same configuration, for the unpickler to close.

    A closed app can be pickled too: its configuration is the same.
    """

    #: None if it was not opened by gothreads.open or gothreads.supervise.
    configuration: PickledOptions | None = None

    @property
    def configured(self) -> PickledOptions:
        """What it was opened with. MisuseError: nobody knows."""
        if self.configuration is None:
            raise MisuseError(f"{self!r} was not opened with gothreads.open or gothreads.supervise, so nobody knows "
                              f"how to open it in another process")
        return self.configuration

    def __reduce_ex__(self, _protocol: object) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        configuration = self.configured
        configuration.check()
        return reopen, (configuration.opener, configuration.path, dict(configuration.options))

    def __copy__(self) -> NoReturn:
        raise MisuseError(f"{self!r} cannot be copied: nothing copies a running program's memory and threads. Open "
                          f"another with gothreads.open(...)")

    def __deepcopy__(self, _memo: object) -> NoReturn:
        self.__copy__()
