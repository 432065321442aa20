"""What the overlay changes in GOROOT/src: the edits, the files that are left out, and those under two names.

An edit names a file of GOROOT/src, the text that it expects there (exactly `count` times), the replacement and the
reason (`edit.py`).
"""

from __future__ import annotations

from gothreads.build.net_edits import NET_EDITS
from gothreads.build.runtime_edits import RUNTIME_EDITS, SIGNAL_EDITS

#: All edits to what programs are built from.
EDITS = RUNTIME_EDITS + SIGNAL_EDITS + NET_EDITS

#: Files of GOROOT/src that are left out, with the reason: files of gothreads replace them.
LEFT_OUT = {
    "runtime/lock_wasip1.go": "locks for a single thread, which never wait",
    "runtime/netpoll_wasip1.go": "holds a lock while it blocks, and cannot be woken",
    "syscall/net_wasip1.go": "no sockets: net_gothreads.go has them",
    "internal/syscall/unix/net_wasip1.go": "no sockets: net_gothreads.go has them",
    "net/fd_wasip1.go": "of the network in memory",
    "net/file_wasip1.go": "of the network in memory",
}

#: Tests of Go's own that are left out, with the reason.
TESTS_LEFT_OUT = {
    "net/file_wasip1_test.go": "of the network in memory",
    "net/net_fake_test.go": "of the network in memory",
}

#: Files of GOROOT/src that also serve under another name: their own name limits them to Linux.
ALIASES = {
    "net/sockopt_gothreads.go": "net/sockopt_linux.go",
    "net/sockoptip4_gothreads.go": "net/sockoptip4_linux.go",
}
