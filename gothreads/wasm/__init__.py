#: This package uses apps like any program: close() in a signal handler that interrupts it may wait
#: (runtime/lifecycle.py).
PROGRAM_CODE = True
