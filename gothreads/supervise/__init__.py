"""Restarts a module that has ended, and carries its state over to the new instance."""

#: Code in this package uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/own_code.py).
PROGRAM_CODE = True
