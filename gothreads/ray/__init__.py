"""Go on a Ray cluster: `Pool` for maps, `actor` for state by key, `deployment` for HTTP. Needs the extra `ray`."""

from gothreads.requirements import install, missing_modules

#: This package uses apps as a program does (runtime/own_code.py).
PROGRAM_CODE = True

if missing := missing_modules("ray"):
    raise ImportError(f"gothreads.ray needs {', '.join(missing)}: {install('ray')}", name=missing[0])

from gothreads.ray.actors import Actor, actor  # noqa: E402 - only now it is known that Ray is there
from gothreads.ray.pool import Pool  # noqa: E402
from gothreads.ray.serving import deployment  # noqa: E402

__all__ = ["Actor", "Pool", "actor", "deployment"]
