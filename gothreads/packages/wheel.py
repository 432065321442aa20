"""Writes a wheel of a module's typed functions: a Python package that pip installs on any platform, without Go."""

from __future__ import annotations

import base64
import hashlib
import io
import keyword
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from gothreads.errors import MisuseError
from gothreads.files import make_folder, write_atomically
from gothreads.packages.stubs import package_files
from gothreads.runtime.module_file import LoadedModule
from gothreads.text import cut
from gothreads.version import __version__

_TAG = "py3-none-any"
#: Versions as PEP 440 writes them; pip would write others anew, and then the file's name would not be the version's.
_VERSION = re.compile(r"(?:[1-9]\d*!)?(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?"
                      r"(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?")
_METADATA = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
Summary: Functions of the Go package {package}
Requires-Python: >=3.11
Requires-Dist: gothreads>={least}
"""
_WHEEL = f"""\
Wheel-Version: 1.0
Generator: gothreads {__version__}
Root-Is-Purelib: true
Tag: {_TAG}
"""
#: The time of all files in it, so that the same module makes the same wheel: the first that zip files know.
_WHEN = (1980, 1, 1, 0, 0, 0)


def write_wheel(loaded: LoadedModule, folder: Path, name: str, version: str) -> Path:
    """Write the wheel of the package `name`; returns its path.

    MisuseError: the module has no typed functions, or the name or the version is none of Python's.
    """
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or name.startswith("_"):
        raise MisuseError(f"{cut(name)} cannot be a package's name in Python. Choose another: --name NAME")
    if not _VERSION.fullmatch(version):
        raise MisuseError(f"--version {version}: expected a version such as 1.0 or 1.2.3rc1")
    project = name.lower()
    package, files = package_files(loaded)
    about = f"{project}-{version}.dist-info"
    content = [(f"{name}/{file}", data) for file, data in files.items()]
    content.append((f"{about}/METADATA", _METADATA.format(name=project, version=version, package=package,
                                                          least=__version__).encode()))
    content.append((f"{about}/WHEEL", _WHEEL.encode()))
    content.append((f"{about}/RECORD", _record(content, about).encode()))
    path = make_folder(folder) / f"{project}-{version}-{_TAG}.whl"
    write_atomically(path, _zipped(content))
    return path


def _record(content: Iterable[tuple[str, bytes]], about: str) -> str:
    """The list of the files, with their hashes."""
    lines = []
    for name, data in content:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join(lines) + f"{about}/RECORD,,\n"


def _zipped(content: Iterable[tuple[str, bytes]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content:
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return made.getvalue()
