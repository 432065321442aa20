"""A module's descriptors and poller in C (csrc/io.h): most calls on sockets and files involve no Python.

C serves the numbers that are published to it, and opens descriptors itself: sockets, connections that a listener has
accepted, and files. There is no object of these until Python needs one (DescriptorTable.get): it claims the descriptor
then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from enum import IntFlag
from typing import Any

from gothreads.engine import ffi
from gothreads.engine.extension import compiled
from gothreads.shared_memory import SharedMemory
from gothreads.wasi import openat
from gothreads.wasi.descriptor_table import DescriptorTable, Opened, Refused
from gothreads.wasi.descriptors import ALL_FLAGS, Descriptor, FileType
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.network_socket import NetworkSocket
from gothreads.wasi.peers import Peers
from gothreads.wasi.poller import Poller
from gothreads.wasi.socket_address import Address
from gothreads.wasi.socket_descriptor import SocketDescriptor
from gothreads.wasm import layout
from gothreads.wasm.host_calls import HOST, WASI

#: What is in C, with the Python function for what C does not serve.
_FUNCTIONS = {
    HOST: ("poll_open", "poll_wait", "poll_break", "net_socket", "net_connect", "net_accept", "net_name",
           "net_getsockopt", "net_setsockopt", "net_shutdown", "net_receive", "net_send"),
    WASI: ("fd_read", "fd_write", "fd_pread", "fd_pwrite", "fd_seek", "fd_close", "fd_filestat_get", "fd_fdstat_get",
           "fd_fdstat_set_flags", "fd_readdir", "path_open", "path_filestat_get", "path_create_directory",
           "path_remove_directory", "path_unlink_file", "path_rename")}
_FDFLAGS = 33  # how far WASI's fdflags are shifted, among the flags of an entry
_PEER = 24  # of an address's bytes, those that tell one IP address from another


class Flag(IntFlag):
    """How C serves a number. csrc/io.h has the same."""

    SOCKET = 1 << 25
    NETWORK = 1 << 26
    LISTENER = 1 << 27
    FILE = 1 << 28
    FOLDER = 1 << 29
    READS = 1 << 30
    WRITES = 1 << 31
    READ_ONLY = 1 << 32
    ANSWERS = 1 << 39


def flags_of(descriptor: Descriptor) -> Flag:
    """How C may serve a descriptor of Python's; 0 if it may not."""
    flags = Flag(0)
    if isinstance(descriptor, SocketDescriptor):
        if descriptor.direct:
            flags |= Flag.SOCKET
            if isinstance(descriptor, NetworkSocket):
                flags |= Flag.LISTENER if descriptor.accepts_directly else 0
                flags |= Flag.NETWORK if descriptor.is_plain else 0
                flags |= Flag.ANSWERS if descriptor.answers else 0
    elif type(descriptor) is Descriptor:
        if descriptor.type is FileType.REGULAR_FILE:
            flags |= Flag.FILE
        elif descriptor.type is FileType.DIRECTORY:
            flags |= Flag.FOLDER
        if flags:
            flags |= Flag.READS if descriptor.readable else 0
            flags |= Flag.WRITES if descriptor.writable else 0
            flags |= Flag.READ_ONLY if descriptor.read_only else 0
    return flags


class NativeOpened(Opened):
    """The numbers and the descriptors that C has."""

    def __init__(self, io: Any, table: DescriptorTable) -> None:
        self._io = io
        self._stop, self._most = table.stop, table.most
        for number in table.open_numbers():
            self._io.use(number)

    def take(self, *, is_socket: bool) -> int:
        number: int | None = self._io.take(is_socket)
        if number is None:
            raise OSError(errno.EMFILE, "too many descriptors")
        return number

    def give(self, number: int) -> None:
        self._io.give(number)

    def count(self) -> None:
        if not self._io.count():
            raise Refused(self._most)

    def uncount(self) -> None:
        self._io.uncount()

    def claim(self, number: int) -> Descriptor | None:
        found = self._io.claim(number)
        if found is None:
            return None
        fd, flags = found
        try:
            if flags & Flag.SOCKET:
                return NetworkSocket.claimed(socket.socket(fileno=fd), self._stop,
                                             connected=bool(flags & Flag.NETWORK))
            return Descriptor(fd, self._stop, flags=flags >> _FDFLAGS & ALL_FLAGS, readable=bool(flags & Flag.READS),
                              writable=bool(flags & Flag.WRITES), read_only=bool(flags & Flag.READ_ONLY))
        except BaseException:
            self._io.retire(number, fd)
            with contextlib.suppress(OSError):
                os.close(fd)
            self._io.give(number)
            self._io.uncount()
            raise

    def close_all(self) -> None:
        self._io.close_all()


class NativePeers(Peers):
    """The addresses that C has. They are in the form that the module passes."""

    def __init__(self) -> None:
        self.native = compiled.Peers()

    def add_sender(self, own: Address, sender: Address) -> None:
        self.native.add_sender(own.pack()[:_PEER], sender.pack()[:_PEER])

    def has_sent(self, own: Address, sender: Address) -> bool:
        found: bool = self.native.has_sent(own.pack()[:_PEER], sender.pack()[:_PEER])
        return found

    def version(self) -> int:
        current: int = self.native.version()
        return current

    def allow(self, address: Address, version: int) -> None:
        self.native.allow(address.pack()[:_PEER], version)

    def forget(self) -> None:
        self.native.forget()


class NativePoller(Poller):
    """The poller in C, and the functions on descriptors that are there."""

    def __init__(self, memory: SharedMemory, table: DescriptorTable) -> None:
        errnos = bytes(wasi_errno(OSError(number, "")) for number in range(256))
        self._table, peers = table, NativePeers()
        self.peers = peers
        self._io = compiled.IoTable(table.most_counted, openat.lookup is openat.open_with_openat2, errnos,
                                    table.stop.descriptor, peers.native, *memory.pointers)
        table.on_add, table.on_change, table.on_remove = self._publish, self._publish, self._retire
        table.on_move = lambda number: self._io.retire(number, -1)
        table.share(NativeOpened(self._io, table))

    def define(self, functions: ffi.HostFunctions) -> None:
        for module, names in _FUNCTIONS.items():
            for name in names:
                functions.replace(module, name, self._io)

    def poll_wait(self, nanoseconds: int, events: int, most: int) -> int:
        raise AssertionError("in C")

    def poll_break(self) -> None:
        raise AssertionError("in C")

    def notify(self, poll_desc: int, sequence: int, mode: int) -> None:
        self._io.inject(poll_desc, sequence, mode)

    def close(self) -> None:
        self._io.close_poller()

    def _watch(self, descriptor: int, poll_desc: int, sequence: int) -> None:
        self._io.watch(descriptor, poll_desc, sequence)

    def _publish(self, number: int, descriptor: Descriptor) -> None:
        """Serve a number in C as far as that is possible from now on."""
        if number < 2 * layout.FIRST_SOCKET:
            self._io.retire(number, -1)
            if flags := flags_of(descriptor):
                self._io.publish(number, descriptor.fd, flags)

    def _retire(self, number: int, descriptor: Descriptor) -> None:
        self._io.retire(number, descriptor.fd)


def poller(memory: SharedMemory, table: DescriptorTable) -> Poller:
    """The poller for a module."""
    return Poller(memory, table) if compiled is None else NativePoller(memory, table)
