"""Makes vendor/ from Debian's package of goldmark, for machines that reach no Go module proxy.

    sudo apt install golang-github-yuin-goldmark-dev
    python examples/typed/vendor.py

Where there is a proxy, this is not needed: go get.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

MODULE = "github.com/yuin/goldmark"
DEBIAN = Path("/usr/share/gocode/src") / MODULE
PACKAGE = "golang-github-yuin-goldmark-dev"


def main() -> int:
    folder = Path(__file__).parent
    if not DEBIAN.is_dir():
        print(f"vendor.py: there is no {DEBIAN}. Install it: sudo apt install {PACKAGE}", file=sys.stderr)
        return 1
    vendor = folder / "vendor"
    shutil.rmtree(vendor, ignore_errors=True)
    shutil.copytree(DEBIAN, vendor / MODULE, ignore=shutil.ignore_patterns("*_test.go", "testdata", "_*"))
    required = re.search(rf"^require {MODULE} (\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)
    assert required is not None, "go.mod requires no goldmark"
    packages = sorted({file.parent.relative_to(vendor).as_posix() for file in vendor.rglob("*.go")})
    go = re.search(r"^go \S+$", (DEBIAN / "go.mod").read_text(), re.MULTILINE)
    about = [f"# {MODULE} {required[1]}", f"## explicit; {go[0]}" if go else "## explicit"]
    (vendor / "modules.txt").write_text("\n".join([*about, *packages, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
