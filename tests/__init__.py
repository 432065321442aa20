"""The tests import gothreads from the sources: so what is compiled of it must lie there, and be of these sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def _build_calls_in_c() -> None:
    """As an editable install does. Without a C compiler nothing comes of it, and the tests run without (gothreads/host/fast.py)."""
    root = Path(__file__).parent.parent
    newest = max(path.stat().st_mtime for path in root.glob("gothreads/csrc/*"))
    built = list(root.glob("gothreads/_fast*.so"))
    if os.environ.get("GOTHREADS_FAST") != "0" and not any(path.stat().st_mtime > newest for path in built):
        subprocess.run([sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_ext", "--inplace", "--force"], cwd=root,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


_build_calls_in_c()
