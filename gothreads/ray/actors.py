"""`gothreads.ray.actor`: a module with its state, one for each key, as an actor of Ray."""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import ray
from fsspec.implementations.local import LocalFileSystem

from gothreads.errors import AppClosed, HandlerError, MisuseError, hides_frames
from gothreads.files import write_atomically
from gothreads.ray.pool import checked, stored
from gothreads.remote import apps
from gothreads.remote.batches import Batch, Outcome, refused, run
from gothreads.remote.handle import Remote
from gothreads.remote.mapping import begin_one
from gothreads.runtime.cancellation import OnTimeout
from gothreads.sync.seconds import check_seconds
from gothreads.text import cut, words

log = logging.getLogger("gothreads")

#: Actors of a name are unique in a namespace; without one, each program has its own.
_NAMESPACE = "gothreads"


@hides_frames
def actor(go: Remote, key: str, *, store: str | None = None, save_every: float | None = None, num_cpus: float = 1,
          **options: Any) -> Actor:
    """The actor of that key: the module, opened once in the cluster. It is made by the first who asks for it.

    go: from gothreads.remote.
    store: where the state is kept: a folder, as a URL of fsspec ("s3://bucket/states", "file:///mnt/shared"), which all
        nodes reach. It is the reply of the module's handler `save`, and passed to its handler `load` before any call:
        when the actor starts, on another node after its own was lost, and after the module has ended.
        Each module has a folder in it.
    save_every: how often it is saved, in seconds, if there were calls (default: only by save() and close()).
    num_cpus: how many processors Ray keeps for it, and Go (`procs`, unless the handle has that option).
    options: others of Ray, such as `lifetime="detached"`, `max_concurrency` (default: 16 calls at once) or `resources`.

    What is lost when a node dies: all changes since the last save. Calls in it then raise ray.exceptions.RayActorError,
    and are not made again: they may have had an effect. Ray runs one actor of a name at a time, as far as it sees; a
    node that is cut off may go on until it notices, and may save. The module itself is in Ray's object store only as
    long as the program is there that made the actor. So an actor with `lifetime="detached"` keeps its module beside its
    state; without a store, it comes back only on nodes that have the module by then.

    Returns at once. Calls are told that the module does not start; or, as MisuseError, that the key's actor has another
    module or another store: close() it first. MisuseError: a wrong argument, Ray is not there.
    """
    go = checked(go, num_cpus)
    if not isinstance(key, str) or not key:
        raise MisuseError(f"an actor's key must be a str, not {cut(key)}")
    check_seconds("save_every", save_every, above_zero=True)
    if save_every is not None and store is None:
        raise MisuseError("save_every needs a store: where the state is to be kept")
    if store is not None and options.get("lifetime") == "detached":
        held = go.fetched_by(functools.partial(_keep, store, go.name))
    else:
        held = stored(go)
    made = ray.remote(_Owner).options(**{
        "name": f"{go.name} {key}", "namespace": _NAMESPACE, "get_if_exists": True, "num_cpus": num_cpus,
        "max_restarts": -1, "max_concurrency": 16, **options}).remote(held, key, store, save_every)
    return Actor(go.lean, key, made, _identity(held, store))


def _identity(go: Remote, store: str | None) -> str:
    """What all who use an actor must agree on."""
    return f"{go.module_key} {store}"


class Actor:
    """The module of a key, made by `gothreads.ray.actor`. It can be pickled. Any thread may call it."""

    def __init__(self, go: Remote, key: str, owner: Any, identity: str) -> None:
        self._go, self.key, self._owner, self._identity = go, key, owner, identity

    @hides_frames
    def call(self, export: str, /, *args: Any, timeout: float | None = None,
             on_timeout: OnTimeout = "continue") -> Any:
        """Call an export, or a typed function, and return its result. Errors have their types, and Go's stacks.

        timeout, on_timeout: as for App.submit; the timeout counts from when the call begins there.
        """
        return self.submit(export, *args, timeout=timeout, on_timeout=on_timeout).result()

    @hides_frames
    def submit(self, export: str, /, *args: Any, timeout: float | None = None,
               on_timeout: OnTimeout = "continue") -> Future[Any]:
        """The same, for the future's result."""
        return begin_one(_Engine(self._owner, self._identity), self._go.calls(export, timeout, on_timeout), args)

    @hides_frames
    def save(self) -> None:
        """Save the state now. MisuseError: there is no store; HandlerError: what the module's `save` has returned."""
        _settled(self._owner.save.remote())

    @hides_frames
    def close(self) -> None:
        """Save the state, if there is a store, and end the actor. The next who asks for the key makes another.

        Calls that are in the module come back first; later ones are refused. If the state cannot be saved, the actor
        goes on, and the error is raised, as for save().
        """
        _settled(self._owner.finish.remote())
        ray.kill(self._owner)

    def __repr__(self) -> str:
        return f"<gothreads.ray.Actor {self._go.name} {self.key!r}>"


class _Engine:
    """An engine (remote/engines.py): one actor."""

    workers, seconds = 1, 0.05

    def __init__(self, owner: Any, identity: str) -> None:
        self._owner, self._identity = owner, identity

    def send(self, batch: Batch) -> Future[Outcome | None]:
        sent: Future[Outcome | None] = self._owner.run.remote(self._identity, batch.export, batch.arguments,
                                                              batch.timeout, batch.on_timeout).future()
        return sent

    def cancel(self, sent: Future[Outcome | None]) -> None:
        """A call goes on until its timeout: Ray interrupts no thread of an actor."""


def _settled(reference: Any) -> None:
    """Wait for what returns an error, or None."""
    if (error := ray.get(reference)) is not None:
        raise error


class _Store:
    """A module's folder in a store."""

    def __init__(self, url: str, module: str) -> None:
        # Files of its own: a transaction belongs to all that share them.
        self._files, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
        self._folder = f"{root.rstrip('/')}/{quote(module, safe='')}"
        self._files.makedirs(self._folder, exist_ok=True)

    def has(self, name: str) -> bool:
        return bool(self._files.exists(f"{self._folder}/{name}"))

    def read(self, name: str) -> bytes:
        content: bytes = self._files.cat_file(f"{self._folder}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:
        """All of it, or nothing."""
        path = f"{self._folder}/{name}"
        if isinstance(self._files, LocalFileSystem):  # its transactions copy from another file system
            write_atomically(Path(path), content)
            return
        with self._files.transaction, self._files.open(path, "wb") as file:
            file.write(content)


def _keep(url: str, module: str, content: bytes) -> Callable[[], bytes]:
    """Keep a module in the store. What is returned can be pickled, and gets it from there."""
    store, name = _Store(url, module), f"{hashlib.sha256(content).hexdigest()}.wasm"
    if not store.has(name):
        store.write(name, content)
    return functools.partial(_kept, url, module, name)


def _kept(url: str, module: str, name: str) -> bytes:
    return _Store(url, module).read(name)


class _Opener:
    """Opens the module with its last saved state. See apps.Opener."""

    def __init__(self, go: Remote, key: str, store: str | None) -> None:
        self.key, self._go, self._name = f"{go.key} {key}", go, f"{quote(key, safe='')}.state"
        self._store = None if store is None else _Store(store, go.name)

    def open(self, *, procs: int | None = None) -> Any:
        app = self._go.open(procs=procs)
        try:
            if self._store is not None and self._store.has(self._name):
                app.request("load", self._store.read(self._name))
        except BaseException:
            app.close()
            raise
        return app

    def write(self, state: bytes) -> None:
        if self._store is None:
            raise MisuseError("the actor has no store, so its state cannot be saved: actor(…, store=…)")
        self._store.write(self._name, state)


class _Owner:
    """The actor itself. Its methods run on several threads, and return errors as values: Ray would wrap them.

    Invariant: what is in the store was saved after all that was in it before. One thread saves at a time, and asks the
    module under the same lock. The last save has what all calls did that were answered: it begins when none is in the
    module, and none begins after it.
    """

    def __init__(self, go: Remote, key: str, store: str | None, save_every: float | None) -> None:
        self._opener, self._saves = _Opener(go, key, store), threading.Lock()
        self._has_store, self._called = store is not None, threading.Event()
        self._identity = _identity(go, store)
        self._calls = threading.Condition()  # guards the next two
        self._running, self._finished = 0, False
        with apps.using(self._opener):
            pass
        if save_every is not None:
            threading.Thread(target=self._save_regularly, args=(save_every,), daemon=True).start()

    def run(self, identity: str, export: str, arguments: Any, timeout: float | None,
            on_timeout: OnTimeout) -> Outcome | None:
        if identity != self._identity:
            return refused(MisuseError("the actor of this key has another module or another store. Use those, or "
                                       "another key; or close() it, for a new version of the module"))
        with self._calls:
            if self._finished:
                return refused(AppClosed("the actor was closed: ask for it again"))
            self._running += 1
        try:
            return run(Batch(self._opener, export, arguments, timeout, on_timeout))  # type: ignore[arg-type] # opens
        finally:
            self._called.set()
            with self._calls:
                self._running -= 1
                self._calls.notify_all()

    def save(self) -> Exception | None:
        try:
            with self._saves, apps.using(self._opener) as app:
                self._called.clear()  # before: a call that comes now may be too late for this one
                self._opener.write(app.request("save"))
        except Exception as error:  # for who has asked
            self._called.set()
            return error if isinstance(error, HandlerError | MisuseError) else HandlerError(words(error))
        return None

    def finish(self) -> Exception | None:
        with self._calls:
            self._finished = True
            self._calls.wait_for(lambda: self._running == 0)
        error = self.save() if self._has_store else None
        self._finished = error is None
        return error

    def _save_regularly(self, seconds: float) -> None:
        pause = threading.Event()
        while True:
            self._called.wait()
            pause.wait(seconds)
            if (error := self.save()) is not None:
                log.warning("the state of %s was not saved, and will be tried again: %s", self._opener.key, error)
