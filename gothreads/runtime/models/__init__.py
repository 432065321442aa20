"""The execution models, one a file, and their table.

To add one: its class, with its name in `model`, and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass

from gothreads.runtime.app import App
from gothreads.runtime.models.idle import IdleApp
from gothreads.runtime.models.pool import PoolApp
from gothreads.runtime.models.single import SingleApp
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.runtime.models.wasi_threads import WasiThreadsApp


@dataclass(frozen=True)
class Model:
    """`app` runs modules that were built from Go, `foreign_app` others (None: the model does not run those)."""

    app: type[App]
    foreign_app: type[App] | None

    @property
    def build_model(self) -> str:
        """What a module must be built for."""
        return self.app.build_model

    @property
    def has_many_instances(self) -> bool:
        return self.app.has_many_instances


#: By name.
MODELS = {model.app.model: model for model in (
    Model(ThreadedApp, WasiThreadsApp), Model(SingleApp, SingleApp), Model(IdleApp, None), Model(PoolApp, PoolApp))}
