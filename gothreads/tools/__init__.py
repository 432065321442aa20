"""The commands `gothreads compare` and `gothreads stress`."""

#: Code here uses apps as a program does: close() in a signal handler that has interrupted it may wait
#: (runtime/own_code.py).
PROGRAM_CODE = True
