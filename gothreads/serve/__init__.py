"""Serves an app over HTTP: `gothreads serve`, `gothreads.asgi`. Needs the extra `serve`."""

#: Code in this package uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/own_code.py).
PROGRAM_CODE = True
