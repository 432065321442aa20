"""The first 12,288 bytes of memory, which Go's linker leaves unused (wasmMinDataAddr): what gothreads keeps there.

    0      Go's nil page begins; nothing is at 0
    8      stop flag          u32   not 0: every thread is to leave
    12     unaligned lock     u32   1 while a thread does what is atomic elsewhere at an address that is not aligned
    16     clock scratch      i64   where a host clock is read to; one thread at a time
    32     counts             11×u64 statistics; one thread at a time
    256    parked addresses   u32 per thread: the address of the futex it waits on, or 0
    9216   bootstrap stack, from the top down; one thread at a time
    12288  Go's data
"""

from __future__ import annotations

STOP_FLAG = 8
UNALIGNED_LOCK = 12
CLOCK_SCRATCH = 16
COUNTS = 32
PARKED = 256
PARKED_SIZE = 4
BOOTSTRAP_STACK_END = 9216
BOOTSTRAP_STACK = 12288 - 64
GO_DATA = 12288

#: The most memory a module may have, in bytes. Above lie the values that Go poisons stack guards with (see build/edits.py).
MOST_MEMORY = 0xF0000000

#: How many instances can be in one memory at a time.
MAX_THREADS = (BOOTSTRAP_STACK_END - PARKED) // PARKED_SIZE

#: Descriptors from here on are sockets, which never wait: the rewrite lets their calls keep their P.
FIRST_SOCKET = 1 << 16
