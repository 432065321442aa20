"""The layout of the first 12,288 bytes of memory, which Go's linker leaves unused (wasmMinDataAddr).

    0      Go's nil page begins; nothing is at 0
    12     unaligned lock     u32   1 while a thread performs an atomic operation at an unaligned address
    16     clock scratch      i64   receives the value of a host clock; one thread at a time
    120    never              u32   always 0: to sleep, a thread waits here for another value, with a time limit
    124    handlers          u32   not 0: the host wants its main thread to run signal handlers
    128    instances          u64   number made so far; only when races are sharpened
    136    counts             14×u64 statistics, or where the scheduler's are; one thread at a time
    9216   bootstrap stack, from the top down; one thread at a time
    12288  Go's data
"""

from __future__ import annotations

UNALIGNED_LOCK = 12
CLOCK_SCRATCH = 16
NEVER = 120
HANDLERS = 124
INSTANCES = 128
COUNTS = 136
BOOTSTRAP_STACK = 12288 - 64
GO_DATA = 12288

#: The most memory that a module may have, in bytes. Above it lie the values with which Go poisons stack guards
#: (build/runtime_edits.py).
MOST_MEMORY = 0xF0000000

#: Descriptors from this number on are sockets. Their calls never wait, so passes/threads.py lets them keep their P.
FIRST_SOCKET = 1 << 16
