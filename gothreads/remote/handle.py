"""`gothreads.remote`: the handle that stands for a module in other processes, and travels to them."""

from __future__ import annotations

import hashlib
import importlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import ModuleType
from typing import Any, Unpack

from gothreads.errors import MisuseError, ModuleError, hides_frames, unknown
from gothreads.launch import find_for
from gothreads.remote import apps
from gothreads.remote.batches import Batch, told
from gothreads.remote.engines import Engine, engine_of
from gothreads.remote.mapping import Map, begin_one
from gothreads.remote.shipped import Missing, Shipped
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.interface import RunningModule
from gothreads.runtime.keywords import complete, documented
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.module_source import Content, ModuleSource, source_of
from gothreads.runtime.options import OpenOptions
from gothreads.runtime.pickling import Picklable, PickledOptions, reopen

#: These are for who builds the module. It travels built; and never with machine code, which `trust` is for.
_OF_BUILDING = ("go", "optimize", "progress", "trust")


@documented(OpenOptions)
def remote(source: ModuleSource | RunningModule, **options: Unpack[OpenOptions]) -> Remote:
    """A handle of a module for other processes and machines. It can be pickled, and travels with the module's content.

    Nothing is opened here. Each process opens the module at the first call there, once, and each machine compiles it
    once. State is not shared between processes.

    source: as for `open`: a package is built here. Or an app, which travels as what it was opened with.
    {OpenOptions}

    Paths, such as those of `mounts`, are those of the machine where the module runs. Functions (`handlers`, `host`)
    travel by their names; by cloudpickle, if that is installed, also those that have none.

    Raises BuildError, ModuleError, or MisuseError: a wrong option, or one that cannot travel.
    """
    if isinstance(source, RunningModule):
        if options:
            raise MisuseError("remote() was given an app, which has its options: give it the module instead, with "
                              "others")
        assert isinstance(source, Picklable)
        return _handle(source.configured, source.loaded)
    complete("remote()", OpenOptions, options)
    return _handle(PickledOptions.of("gothreads.open", source_of(source), options))


def _handle(configuration: PickledOptions, loaded: LoadedModule | None = None) -> Remote:
    """loaded: of an app."""
    options = dict(configuration.options)
    shipped = None
    if configuration.path is not None:  # otherwise the opener, of a Python package, knows its module
        loaded = find_for(configuration.path, options)  # type: ignore[arg-type] # they are those of open
        shipped = Shipped.of(loaded.name, loaded.wasm)
        options = {name: value for name, value in options.items() if name not in _OF_BUILDING}
        if loaded.trusted:
            options["trust"] = True
    assert loaded is not None
    replace(configuration, options=options).check(_dumps)
    typed = loaded.metadata.typed if loaded.metadata is not None else None
    names = {export.name for export in loaded.exports} | {each["name"] for each in (typed or {}).get("functions", ())}
    return Remote(loaded.name, configuration.opener, shipped, _dumps(options), tuple(sorted(names)), typed)


def _dumps(value: Any) -> bytes:
    """By cloudpickle, if that is there: then functions without a name travel, too."""
    try:
        dumped: bytes = importlib.import_module("cloudpickle").dumps(value)
    except ImportError:
        return pickle.dumps(value)
    return dumped


@dataclass(frozen=True, eq=False, repr=False)
class Remote:
    """A module for other processes: made by `gothreads.remote`. It can be pickled. Any thread may use it."""

    #: The module's name.
    name: str
    _opener: str
    _module: Shipped | None
    _options: bytes
    _calls: tuple[str, ...]
    _typed: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        """Make the classes of the module's types, so that their values can be unpickled wherever the handle is."""
        _ = self.types

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, tuple(getattr(self, each.name) for each in fields(self))

    @cached_property
    def key(self) -> str:
        """Names the module's content and the options. Handles of the same key share the app of a process."""
        return hashlib.sha256(self._options + self.module_key.encode()).hexdigest()

    @property
    def module_key(self) -> str:
        """Names the module's content. Options may be pickled in several ways; this is the same in all programs."""
        return f"{self._opener} {self._module.digest if self._module else ''}"

    @cached_property
    def types(self) -> ModuleType:
        """The classes for the types of typed functions, as App.types: also of what comes from other processes."""
        if self._typed is None:
            return ModuleType("types", "The module has no types.")
        from gothreads.typed.classes import classes_of  # takes 20 ms, and other modules need none of it
        return classes_of(self._typed).module

    @hides_frames
    def map(self, export: str, *iterables: Iterable[Any], on: Executor | Engine, timeout: float | None = None,
            on_timeout: OnTimeout = "continue", batch: int | None = None) -> Iterator[Any]:
        """Like the built-in map: the calls run on an executor's workers. Results come in order.

        The calls go in batches, each of which makes its calls one after the other. So as many calls run at once as the
        executor has workers. The first batches go now; the others go as results are taken: the iterables are read only
        so far ahead.

        on: a concurrent.futures.Executor. Of processes: with the start method "spawn" or "forkserver", since an app
            does not survive a fork.
        timeout, on_timeout: as for App.submit; the timeout of every call counts from now. With a timeout, a call costs
            some 0.1 ms more.
        batch: how many calls go together (default: as many as take 50 ms, as measured, or 200 ms on a cluster).

        The first error, in the order of calls, is raised when its turn comes, and no more batches go. Errors have their
        types, with Go's stacks. Whatever ends the map (also the iterator's close()) cancels the batches that have not
        begun. Raises UnknownExport, ArgumentError; what the executor raises (BrokenProcessPool) comes as it is.
        """
        return Map(engine_of(on), self.calls(export, timeout, on_timeout), iterables, batch).results()

    @hides_frames
    def submit(self, export: str, /, *args: Any, on: Executor | Engine, timeout: float | None = None,
               on_timeout: OnTimeout = "continue") -> Future[Any]:
        """One call on an executor's worker, for the future's result. The timeout counts from when it begins there."""
        return begin_one(engine_of(on), self.calls(export, timeout, on_timeout), args)

    @hides_frames
    def function(self, export: str) -> RemoteFunction:
        """A function that can be pickled, for what takes functions: it calls the export in the process that calls it.

        UnknownExport.
        """
        self._check(export)
        return RemoteFunction(self, export)

    @hides_frames
    def open(self, *, procs: int | None = None) -> Any:
        """Open an app of its own in this process: an App, or a Supervised if the handle is one's.

        procs: unless the handle has that option. Raises what `open` raises.
        """
        options = pickle.loads(self._options)
        if procs is not None:
            options.setdefault("procs", procs)
        module = self._module
        return reopen(self._opener, None if module is None else Content(module.name, module.bring()), options)

    # For the rooms above.

    @property
    def lean(self) -> Remote:
        """The same handle without the module's content, for machines that have it."""
        module = self._module
        return self if module is None or module.lean is module else replace(self, _module=module.lean)

    def fetched_by(self, fetch: Callable[[bytes], Callable[[], bytes]]) -> Remote:
        """The same, whose content is got by what `fetch` returns for the content."""
        if self._module is None or self._module.content is None:
            return self
        return replace(self, _module=replace(self._module, content=None, fetch=fetch(self._module.content)))

    def with_options(self, **options: Any) -> Remote:
        """The same with other options, where it has none of that name."""
        return replace(self, _options=_dumps({**options, **pickle.loads(self._options)}))

    @property
    def supervised(self) -> Remote:
        """The same, opened by gothreads.supervise; but for a Python package's, which opens its module itself."""
        return self if self._module is None else replace(self, _opener="gothreads.supervise")

    def keep(self) -> None:
        """Put the content into this machine's cache, where other processes look for it."""
        _ = self._keeps

    @cached_property
    def _keeps(self) -> bool:
        return self._module is not None and self._module.content is not None and bool(self._module.bring())

    def calls(self, export: str, timeout: float | None = None, on_timeout: OnTimeout = "continue") -> Batch:
        """Calls of an export, to be given arguments. UnknownExport."""
        self._check(export)
        return Batch(self, export, (), timeout, on_timeout)

    def _check(self, export: str) -> None:
        if export not in self._calls:
            raise unknown("export", export, self._calls)

    def __dask_tokenize__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"<gothreads.Remote {self.name} {self.key[:8]}>"


@dataclass(frozen=True, repr=False)
class RemoteFunction:
    """An export of a `Remote`: `function(2, 3)` calls it in the app of this process. It can be pickled."""

    _remote: Remote
    _export: str

    @hides_frames
    def __call__(self, /, *args: Any, **named: Any) -> Any:
        try:
            with apps.using(self._remote) as app:
                return (app._typed_function(self._export) or app.exports[self._export])(*args, **named)
        except Missing:
            raise ModuleError(f"{self._remote.name} is not on this machine, and this function came without its "
                              "content. Make it from what gothreads.remote() has returned, or with "
                              "gothreads.dask.function") from None
        except Exception as error:
            told(error)
            raise

    @property
    def __name__(self) -> str:
        return self._export

    def __dask_tokenize__(self) -> tuple[str, str]:
        return self._remote.key, self._export

    def __repr__(self) -> str:
        return f"<Go function {self._export} of {self._remote!r}>"
