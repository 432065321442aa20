"""What can be served."""

from __future__ import annotations

from gothreads.runtime.app import App
from gothreads.supervise.app import Supervised

Served = App | Supervised
