"""Signals for the module's os/signal.

The module says what is to become of each signal: handled, ignored, or the default, which is the program's own doing
(the command line ends the module). Numbers are WASI's in the module, and names here.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from enum import IntEnum

from gothreads.errors import MisuseError
from gothreads.text import cut

#: Names of WASI preview 1's signals; a name's index is its number.
NAMES = ("NONE", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
         "ALRM", "TERM",
         "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "POLL",
         "PWR", "SYS")


#: Signals that ask a program to end.
ENDING = frozenset({"INT", "QUIT", "TERM"})
#: Signals that do nothing by default.
HARMLESS = frozenset({"CHLD", "CONT", "URG", "WINCH"})


def signal_name(which: str | int) -> str:
    """The name of a signal that may be sent, without SIG: "TERM" for "TERM", "SIGTERM", 15 or signal.SIGTERM."""
    try:
        name = signal.Signals(which).name if isinstance(which, int) else str(which).upper()
    except ValueError:
        name = ""
    name = name.removeprefix("SIG")
    if name not in NAMES[1:]:
        raise MisuseError(f"there is no signal {cut(which)} for a module; there are: {', '.join(NAMES[1:])}")
    return name


class Action(IntEnum):
    """What becomes of a signal."""

    DEFAULT = 0
    HANDLED = 1
    IGNORED = 2


class Signals:
    """What a module does with signals. May be used from any thread, and from a signal handler."""

    def __init__(self, deliver: Callable[[int], None]) -> None:
        """`deliver` gives the module a signal's number, and never waits."""
        self._deliver = deliver
        self._actions: dict[int, Action] = {}

    def signal_want(self, number: int, how: int) -> None:
        """A host call of the module."""
        if 0 < number < len(NAMES) and how in list(Action):
            self._actions[number] = Action(how)

    def action(self, name: str) -> Action:
        """What becomes of a signal, such as "TERM"."""
        return self._actions.get(NAMES.index(name), Action.DEFAULT)

    def send(self, name: str) -> bool:
        """Deliver a signal. False if the module leaves it to the default."""
        action = self.action(name)
        if action is Action.HANDLED:
            self._deliver(NAMES.index(name))
        return action is not Action.DEFAULT

    def signal_raise(self, number: int) -> int:
        """A host call of the module: it sends itself a signal. 1 if it handles or ignores it."""
        return int(0 < number < len(NAMES) and self.send(NAMES[number]))
