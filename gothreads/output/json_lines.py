"""Log lines as JSON: an object a line, for programs that collect logs."""

from __future__ import annotations

import datetime
import json
import logging
import traceback
from typing import Any

#: The attributes that every record has. Others are fields of the message: `extra` of logging.
_USUAL = frozenset((*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "color_message"))


def json_line(level: str, logger: str, message: str, **fields: Any) -> str:
    """A line, with its end. Fields that JSON has no type for are texts."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": time, "level": level, "logger": logger, "message": message, **fields}
    return json.dumps(line, default=str) + "\n"  # ASCII only: nothing that a terminal would interpret


def record_line(record: logging.LogRecord) -> str:
    """The line of a record, with the fields that it was given, and the traceback of its exception."""
    fields = {name: value for name, value in record.__dict__.items() if name not in _USUAL}
    if record.exc_info and record.exc_info[1] is not None:
        fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
    return json_line(record.levelname.lower(), record.name, record.getMessage(), **fields)
