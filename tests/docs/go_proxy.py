"""A Go module proxy in a folder, so that `go get` of the guide runs without a network.

It has golang.org/x/text, from the sources that every Go brings along for its own commands (cmd/vendor): the packages
that those commands use, which is not the whole module. So it is kept out of the user's own module cache.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from gothreads.build.toolchain import find_go

_MODULE = "golang.org/x/text"


def go_environment(folder: Path) -> dict[str, str]:
    """Environment variables of a go command that gets modules from a proxy in this folder, which is made."""
    vendor = find_go().goroot / "src" / "cmd" / "vendor"
    found = re.search(rf"^# {_MODULE} (\S+)\n## explicit; go (\S+)$", (vendor / "modules.txt").read_text(),
                      re.MULTILINE)
    assert found is not None, f"{vendor} has no {_MODULE}"
    version, go = found.groups()
    versions = folder / "proxy" / _MODULE / "@v"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / "list").write_text(f"{version}\n")
    (versions / f"{version}.info").write_text(json.dumps({"Version": version}))
    (versions / f"{version}.mod").write_text(f"module {_MODULE}\n\ngo {go}\n")
    with zipfile.ZipFile(versions / f"{version}.zip", "w") as archive:
        archive.write(versions / f"{version}.mod", f"{_MODULE}@{version}/go.mod")
        for file in sorted((vendor / _MODULE).rglob("*.go")):
            archive.write(file, f"{_MODULE}@{version}/{file.relative_to(vendor / _MODULE)}")
    return {"GOPROXY": f"file://{folder / 'proxy'}", "GOSUMDB": "off", "GOMODCACHE": str(folder / "modules"),
            "GOFLAGS": "-modcacherw"}
