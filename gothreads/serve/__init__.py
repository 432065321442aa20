"""Serves an app over HTTP. Needs the extra `serve`."""

from gothreads.requirements import lacking

if (_problem := lacking("serve")) is not None:
    raise ImportError(_problem)

#: Code in this package uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/own_code.py).
PROGRAM_CODE = True
