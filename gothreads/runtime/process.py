"""The apps of this process: they are closed when Python exits, and belong to the parent process after a fork.

wasmtime's own threads, which WASI needs, do not survive a fork. So a child of a process that has run an app cannot run
one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
import weakref
from typing import Protocol

from gothreads.errors import AppForked
from gothreads.runtime import own_code

_INSTEAD = ("Start the process otherwise (multiprocessing: the 'spawn' start method, or 'forkserver'), or open apps "
            "only in the children of a process that has opened none")


class Closable(Protocol):
    """An app, or a supervisor of apps. What has an underscore is not for the program."""

    def close(self) -> None: ...

    @property
    def _left_open(self) -> bool:
        """Whether the program has not closed it."""

    def _forked(self) -> None:
        """Called in the child of a fork, where its threads do not exist."""


class _Register:
    """Refers to objects weakly. May be used from any thread.

    (A WeakSet may not: iterating it fails when another thread adds one, or drops the last reference to one.)
    """

    def __init__(self) -> None:
        self._references: dict[weakref.ref[Closable], None] = {}  # only single steps change it

    def add(self, one: Closable) -> None:
        references = self._references
        references[weakref.ref(one, lambda reference: references.pop(reference, None))] = None

    def all(self) -> list[Closable]:
        return [one for reference in self._references.copy() if (one := reference()) is not None]


_used = False    # an app was made in this process: wasmtime may have threads
_forked = False  # one was made in a parent process

_apps = _Register()
#: Supervisors, which reopen apps that end: closed before the apps.
_supervisors = _Register()


def use() -> None:
    """Note that an app will be made in this process."""
    global _used
    _used = True


def add(app: Closable) -> None:
    """Register an app that starts."""
    _apps.add(app)


def add_supervisor(supervisor: Closable) -> None:
    _supervisors.add(supervisor)


def apps() -> set[Closable]:
    """The apps that are registered."""
    return set(_apps.all())


def check_not_forked() -> None:
    """Raise AppForked in a child of a process that has run an app."""
    if _forked:
        raise AppForked(f"the parent process has run an app, and wasmtime does not survive a fork. {_INSTEAD}")


def forked(name: str) -> AppForked:
    """The error of an app in a child of the process that opened it."""
    return AppForked(f"{name}: the app was opened before os.fork, and belongs to the parent process; this process "
                     f"cannot open another. {_INSTEAD}")


@own_code.ordinary
def close_all(*, warn: bool = False) -> None:
    """Close all apps that are open. `warn`: of those that the program has left open, as Python warns of files."""
    for opened in (_supervisors, _apps):  # a supervisor closes its app
        for one in opened.all():
            with contextlib.suppress(Exception):  # a filter may make it an error
                if warn and one._left_open:
                    warnings.warn(f"unclosed {one!r}: close it, or use it in a with statement", ResourceWarning,
                                  stacklevel=1, source=one)
            with contextlib.suppress(Exception):  # the others must still be closed
                one.close()


@own_code.ordinary
def _at_exit() -> None:
    """Close all apps. Only here can a warning say that one was left open: while it runs, its threads refer to it."""
    close_all(warn=True)


def _after_fork() -> None:
    global _forked
    _forked = _used
    for app in (*_supervisors.all(), *_apps.all()):
        app._forked()


# Daemon threads that are still in WebAssembly when the interpreter shuts down may crash it.
atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
