"""The commands `gothreads compare` and `gothreads stress`."""

#: Code here uses apps as a program does: close() in a signal handler that has interrupted it may wait
#: (runtime/lifecycle.py).
PROGRAM_CODE = True
