"""The first 12,288 bytes of memory, which Go's linker leaves unused (wasmMinDataAddr): what gothreads keeps there.

    0      Go's nil page begins; nothing is at 0
    12     unaligned lock     u32   1 while a thread does what is atomic elsewhere at an address that is not aligned
    16     clock scratch      i64   where a host clock is read to; one thread at a time
    32     counts             11×u64 statistics; one thread at a time
    120    never              u32   always 0: who wants to sleep waits here for another value, with a time limit
    128    instances          u64   made so far, when races are sharpened
    9216   bootstrap stack, from the top down; one thread at a time
    12288  Go's data
"""

from __future__ import annotations

UNALIGNED_LOCK = 12
CLOCK_SCRATCH = 16
COUNTS = 32
NEVER = 120
INSTANCES = 128
BOOTSTRAP_STACK = 12288 - 64
GO_DATA = 12288

#: The most memory a module may have, in bytes. Above lie the values that Go poisons stack guards with (see build/edits.py).
MOST_MEMORY = 0xF0000000

#: Descriptors from here on are sockets, which never wait: the rewrite lets their calls keep their P.
FIRST_SOCKET = 1 << 16
