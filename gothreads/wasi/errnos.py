"""Maps POSIX error numbers to those of WASI preview 1 (type errno)."""

from __future__ import annotations

import errno

# POSIX names, in the order of the specification: a name's index is its WASI number.
_NAMES = """
    SUCCESS 2BIG ACCES ADDRINUSE ADDRNOTAVAIL AFNOSUPPORT AGAIN ALREADY BADF BADMSG BUSY CANCELED CHILD
    CONNABORTED CONNREFUSED CONNRESET DEADLK DESTADDRREQ DOM DQUOT EXIST FAULT FBIG HOSTUNREACH IDRM ILSEQ
    INPROGRESS INTR INVAL IO ISCONN ISDIR LOOP MFILE MLINK MSGSIZE MULTIHOP NAMETOOLONG NETDOWN NETRESET
    NETUNREACH NFILE NOBUFS NODEV NOENT NOEXEC NOLCK NOLINK NOMEM NOMSG NOPROTOOPT NOSPC NOSYS NOTCONN NOTDIR
    NOTEMPTY NOTRECOVERABLE NOTSOCK NOTSUP NOTTY NXIO OVERFLOW OWNERDEAD PERM PIPE PROTO PROTONOSUPPORT
    PROTOTYPE RANGE ROFS SPIPE SRCH STALE TIMEDOUT TXTBSY XDEV NOTCAPABLE
"""
_NUMBERS = {getattr(errno, f"E{name}"): number for number, name in enumerate(_NAMES.split())
            if hasattr(errno, f"E{name}")}
_NOT_CAPABLE = _NAMES.split().index("NOTCAPABLE")
_EIO = _NUMBERS[errno.EIO]


class NotAllowed(OSError):
    """The host does not allow the operation: WASI's ENOTCAPABLE, which POSIX lacks."""


def wasi_errno(error: OSError) -> int:
    """WASI's number for an error raised by a system call or by a file object that the program passed in."""
    return _NOT_CAPABLE if isinstance(error, NotAllowed) else _NUMBERS.get(error.errno or 0, _EIO)
