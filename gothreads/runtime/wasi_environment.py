"""The WASI environment of a module: its descriptor table with streams, mounts and sockets, and the calls over it.

There is one for each memory. `use` sets that memory before the module runs; `stop` ends waits; `close` comes when no
thread is in the module any more.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

from gothreads.bridge.context import CallContext
from gothreads.bridge.messages import Messages
from gothreads.engine import ffi
from gothreads.errors import MisuseError
from gothreads.shared_memory import BoundedMemory
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.calls.pipe import PipeCalls
from gothreads.wasi.calls.preview1 import WasiCalls
from gothreads.wasi.descriptor_table import DescriptorTable, FileAllowance, Refused
from gothreads.wasi.handed_listeners import Listeners
from gothreads.wasi.linking import define_wasi, define_with_errno
from gothreads.wasi.network import NetworkCalls
from gothreads.wasi.network_rules import Rule
from gothreads.wasi.path_hints import PathHints
from gothreads.wasi.peers import Peers
from gothreads.wasi.process import Process
from gothreads.wasi.resolver import Resolver
from gothreads.wasi.settings import WasiSettings
from gothreads.wasi.simulation import Simulation
from gothreads.wasi.sockets import SocketCalls, address_of
from gothreads.wasi.standard_streams import add_streams
from gothreads.wasi.streams import Streams
from gothreads.wasi.zones import ZoneCalls
from gothreads.wasm.binary import Module
from gothreads.wasm.host_calls import BUILTIN_CALLS, HOST, WASI, Server, imported_calls

log = logging.getLogger("gothreads")

#: The servers, in wasm/host_calls.py, whose calls are provided here.
_SERVERS = (Server.PIPES, Server.SOCKETS, Server.NETWORK, Server.ZONES, Server.MESSAGES,
            Server.SIMULATION)


class WasiEnvironment:
    """MisuseError or GothreadsError if a mount or a listener cannot be set up."""

    def __init__(self, stop: StopEvent, streams: Streams, settings: WasiSettings, *, listeners: Listeners,
                 rules: Sequence[Rule], messages: Messages, context: CallContext, files: FileAllowance) -> None:
        self.stopped = stop
        self.table = DescriptorTable(self.stopped, files)
        self._process = Process(self.table)
        add_streams(self.table, streams)
        self._simulation = None if settings.simulate is None else Simulation(self._process, settings.simulate)
        self._wasi, self._pipes = WasiCalls(self._process, self._simulation), PipeCalls(self._process)
        self._sockets = SocketCalls(self._process, rules)
        self._network = NetworkCalls(self._process, rules, Resolver(rules, stop))
        self._zones = ZoneCalls(self._process)
        self.messages, self.calls, self.context = messages, messages.new_calls(self._process, context), context
        #: The addresses of the listeners that the module was given, with their actual ports; and those of them that it
        #: has not taken up yet.
        self.listening: list[str] = []
        self.not_taken_up: list[str] = []
        try:
            self._listen(listeners)  # before the mounts: from descriptor 3 on, as with systemd
            #: Watches what the module writes.
            self.path_hints = PathHints(settings.hints, settings.mount(self.table), settings.working_folder)
            streams.stdout.watch = streams.stderr.watch = self.path_hints.watch
        except BaseException as error:
            self.close()
            if isinstance(error, Refused):
                raise MisuseError(f"the limit on files ({error.most:,}) leaves no room for the mounts and listeners: "
                                  f"--limit files=N, in Python Limits(files=...)") from None
            raise
        self.table.on_refused = lambda: files.tell(settings.hints)

    def _listen(self, listeners: Listeners) -> None:
        """Open listeners, and hand them over."""
        for listener in listeners.open(self.stopped):
            own = listener.own
            address = f"unix:{own.local}" if own.local else address_of(own)
            self.listening.append(address)
            self.not_taken_up.append(address)
            own.on_use = functools.partial(self._taken_up, listener.text, address)
            self._network.handed.add(self.table.add(own, preopened=True), listener)

    def _taken_up(self, text: str, address: str) -> None:
        """Log that the program listens now. `text`: the address as it was given."""
        try:
            self.not_taken_up.remove(address)
        except ValueError:  # another thread was faster
            return
        port = address.rpartition(":")[2]
        only = f", for this machine only. For others, too: --listen 0.0.0.0:{port}" if text.startswith(":") else ""
        log.info("listening on %s%s", address, only)

    def use(self, memory: BoundedMemory) -> None:
        """Set the module's memory."""
        self._process.memory = self.context.memory = memory

    def share(self, peers: Peers) -> None:
        """Use what the poller's C, if it is there, knows of addresses."""
        self._network.use(peers)

    def define(self, functions: ffi.HostFunctions, module: Module, *, own_clock: bool = False) -> None:
        """Define the functions that the module imports from here. `own_clock`: not wasmtime's."""
        types = {i.name: module.types[i.type_index] for i in module.imported_functions if i.module == WASI}
        own = ["clock_time_get", "random_get"] if self._simulation else ["clock_time_get"] if own_clock else []
        define_wasi(functions, types, self._wasi, own=own)
        servers = dict(zip(_SERVERS, (self._pipes, self._sockets, self._network, self._zones, self.calls,
                                      self._simulation), strict=True))
        for call in imported_calls(module):
            if call.server in servers:
                define_with_errno(functions, HOST, call.name, call.type, getattr(servers[call.server], call.name))

    @staticmethod
    def has(module: str, name: str) -> bool:
        """Whether it provides a function that a module imports."""
        return module == WASI or (module == HOST and name in BUILTIN_CALLS and BUILTIN_CALLS[name].server in _SERVERS)

    def stop(self) -> None:
        """Wake all threads that wait in a call. From any thread; returns at once."""
        self.stopped.set()
        self._wasi.end()

    def close(self) -> None:
        """Free everything. No thread may be in a call."""
        self.table.close_all()
        self._network.handed.clear()
        self._wasi.close()
        self.messages.forget(self.calls)
