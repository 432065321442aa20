"""A module's output as log records: each line is one."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from gothreads.text import printable

Logger = logging.Logger | logging.LoggerAdapter[Any]
#: The same, for isinstance().
LOGGERS = (logging.Logger, logging.LoggerAdapter)

#: The most characters of a record. Longer lines are logged in pieces, so that the host need not keep them.
LONGEST = 16 << 10


class LogLines:
    """A text file that logs each line at `level`. One thread may use it at a time.

    What a terminal or a log might interpret is escaped, so a line cannot pass for two records.
    """

    encoding = "utf-8"  # marks a file of text

    def __init__(self, logger: Logger, level: int) -> None:
        self._logger, self._level = logger, level
        self._rest = ""  # of a line without its end; at most LONGEST characters

    def write(self, text: str) -> None:
        *lines, rest = text.split("\n")
        if lines:
            lines[0] = self._rest + lines[0]
        else:
            rest = self._rest + rest
        kept = (len(rest) - 1) // LONGEST * LONGEST if rest else 0  # where the last piece begins
        self._rest = rest[kept:]
        for line in lines:
            self._log(line.removesuffix("\r"))
        if kept:
            self._log(rest[:kept])

    def flush(self) -> None:
        """Log a last line that has no end."""
        rest, self._rest = self._rest, ""
        if rest:
            with contextlib.suppress(Exception):  # a filter's, at the end of the module: no caller is left to get it
                self._log(rest)

    def _log(self, line: str) -> None:
        for start in range(0, len(line) or 1, LONGEST):  # an empty line is a record, too
            self._logger.log(self._level, "%s", printable(line[start:start + LONGEST]))
