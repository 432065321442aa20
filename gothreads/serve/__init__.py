"""HTTP in front of an app. It needs the extra `serve`."""

from gothreads.requirements import lacking

if (_problem := lacking("serve")) is not None:
    raise ImportError(_problem)
