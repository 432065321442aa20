"""`gothreads.ray.deployment`: the HTTP interface of `gothreads serve`, in replicas of Ray Serve."""

from __future__ import annotations

from typing import Any, Unpack

from gothreads.errors import GothreadsError, MisuseError
from gothreads.remote.handle import Remote
from gothreads.runtime.keywords import complete, documented
from gothreads.runtime.state import State
from gothreads.serve.asgi import asgi
from gothreads.serve.options import AsgiOptions
from gothreads.text import cut

#: Options of Ray that are given if they are not: a replica that stops answers what it has got.
_DEFAULTS = {"graceful_shutdown_timeout_s": 30, "health_check_period_s": 5}
#: States in which a module will not take calls again by itself.
_OVER = (State.EXITED, State.FAILED, State.CLOSED)


@documented(AsgiOptions)
def deployment(go: Remote, *, ray_options: dict[str, Any] | None = None, **options: Unpack[AsgiOptions]) -> Any:
    """An application of Ray Serve: `serve.run(gothreads.ray.deployment(go), route_prefix="/")`.

    It has the paths of `gothreads serve`, and its OpenAPI (docs/serve.md). Each replica opens the module, supervised: a
    module that has ended is opened again there. If that is given up, the replica is unhealthy, and Ray replaces it. A
    replica that Ray stops answers the requests that it has.

    go: from gothreads.remote; of a supervised app, to say how it is supervised.
    ray_options: those of `serve.deployment`: `num_replicas`, `autoscaling_config`, `ray_actor_options`, …

    {AsgiOptions}

    Raises MisuseError for wrong options, ImportError without the extra `serve`, or `ray[serve]`.
    """
    if not isinstance(go, Remote):
        raise MisuseError(f"gothreads.ray takes a handle of gothreads.remote, not {cut(go)}")
    complete("deployment()", AsgiOptions, options)
    from ray import serve  # has dependencies of its own, and takes a second
    num_cpus = ((ray_options or {}).get("ray_actor_options") or {}).get("num_cpus", 1)
    supervised = go.supervised.with_options(procs=max(1, int(num_cpus)))
    asgi(lambda: None, **options)  # type: ignore[arg-type, return-value] # never opened: for its errors, here
    made = serve.deployment(serve.ingress()(_Replica), **{"name": go.name.partition(".")[0], **_DEFAULTS,
                                                          **(ray_options or {})})
    return made.bind(supervised, options)


class _Replica:
    """A replica: Ray runs the lifespan of its ASGI application, which opens and closes the module."""

    def __init__(self, go: Remote, options: Any) -> None:
        self._web = asgi(go.open, **options)

    def __serve_build_asgi_app__(self) -> Any:
        return self._web

    def check_health(self) -> None:
        """Raises if the module will not take calls again: then Ray replaces the replica."""
        app = self._web.app()
        if app.state in _OVER:
            raise GothreadsError(f"the module has ended for good: {app.error}")
