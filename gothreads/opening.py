from pathlib import Path
import os
from gothreads.app import *
from gothreads.app import Options
from gothreads.loading import load
from gothreads.threaded import ThreadedApp
def open(path, args=None, env=None, mounts=None, procs=None, callers=64, callers_timeout=None, limits=None, stdin=None, stdout=None, stderr=None):
    loaded=load(Path(path))
    o=Options(WasiSettings([path,*(args or [])], env or {}, mounts or []), procs or os.cpu_count(), callers, callers_timeout, limits or Limits(), stdin, stdout, stderr)
    app=ThreadedApp(loaded,o)
    app.start()
    return app
