#: This package uses apps like any program: close() in a signal handler that interrupts it may wait
#: (runtime/own_code.py).
PROGRAM_CODE = True
