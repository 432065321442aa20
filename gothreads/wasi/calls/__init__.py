"""The functions of WASI preview 1. The first part of a function's name is its module's name: fd_read is in fd.py.

Methods have WASI's names and parameters: unsigned numbers, and addresses in the module's memory. They return nothing,
or raise OSError, which wasi/linking.py translates to WASI's error number. One that may wait is in BLOCKING_CALLS of
wasm/host_calls.py. All of a module's threads may call them at once. The specification:
https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""
