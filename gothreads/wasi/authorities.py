"""The certificates of authorities on this machine, with which a module that may use the network checks servers.

They are public, and natively every program has them. Go reads them from the file that SSL_CERT_FILE names.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from gothreads.wasi.settings import Mount

#: Where the module sees them.
_PLACE = "/etc/ssl/certs/ca-certificates.crt"
_VARIABLE, _FOLDERS = "SSL_CERT_FILE", "SSL_CERT_DIR"
#: Where they are, by distribution: crypto/x509/root_linux.go.
_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def with_authorities(env: Mapping[str, str], mounts: Sequence[Mount]) -> tuple[dict[str, str], list[Mount]]:
    """The module's environment and mounts, with this machine's authorities unless the environment names others."""
    env, mounts = dict(env), list(mounts)
    if _VARIABLE in env or _FOLDERS in env:
        return env, mounts
    covering = [mount for mount in mounts if PurePosixPath(_PLACE).is_relative_to(posixpath.normpath(mount.guest))]
    if covering:
        found = any(os.path.isfile(mount.host / posixpath.relpath(_PLACE, mount.guest)) for mount in covering)
    elif (file := _file()) is not None:
        mounts.append(Mount(Path(file), _PLACE, read_only=True))
        found = True
    else:
        found = False
    return env | ({_VARIABLE: _PLACE} if found else {}), mounts


def _file() -> str | None:
    """The file on this machine; None if it has none."""
    return next((file for file in (os.environ.get(_VARIABLE, ""), *_FILES) if os.path.isfile(file)), None)
