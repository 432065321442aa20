"""`gothreads.remote`: a module that is called in other processes and on other machines, by engines that exist."""

#: This package uses apps as a program does: close() in a signal handler that has interrupted it may wait
#: (runtime/own_code.py).
PROGRAM_CODE = True
