"""HTTP in front of an app. It needs the extra `serve`."""

from gothreads.requirements import lacking

if (_problem := lacking("serve")) is not None:
    raise ImportError(_problem)

#: Code here uses apps as a program does: close() in a signal handler that has interrupted it may wait (runtime/lifecycle.py).
PROGRAM_CODE = True
