"""Go sources from Debian's packages, unpacked into a folder: this needs no root, and installs nothing.

apt keeps its lists and downloads in that folder too. They are of one Debian release, whatever this machine runs: so the
versions are the same everywhere, and the known differences of their tests apply. apt checks the signatures with
Debian's keys, which the machine must have.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gothreads.errors import GothreadsError
from gothreads.files import locked, write_atomically

RELEASE = "trixie"
_MIRROR = "http://deb.debian.org/debian"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SECONDS = 600

#: Called with what is being done.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """One version of a Debian package, and the packages of Go sources that it depends on."""

    name: str
    version: str
    depends: tuple[str, ...]


class Debian:
    """Packages of the release. `root`: the folder that they are unpacked into."""

    def __init__(self, folder: Path) -> None:
        self.folder = (folder / RELEASE).absolute()
        self.root = self.folder / "root"

    @property
    def gopath(self) -> Path:
        return self.root / "usr/share/gocode"

    def provide(self, names: Iterable[str], progress: Progress) -> dict[str, str]:
        """Unpack these packages and those that they depend on, unless that is done. Returns their versions by name."""
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock"):
            wanted = sorted(names)
            stamps = self._stamps()
            if not stamps.keys() >= {*wanted}:
                progress(f"reading the packages of Debian {RELEASE}")
                self._update()
                missing = [package for package in self._closure(wanted) if stamps.get(package.name) != package.version]
                progress(f"fetching {len(missing)} packages of Debian {RELEASE}")
                self._unpack(missing)
                stamps |= {package.name: package.version for package in missing}
                # Written last, so a package that is listed has all that it depends on.
                lines = "".join(f"{name} {version}\n" for name, version in sorted(stamps.items()))
                write_atomically(self.folder / "unpacked", lines.encode())
            return {name: stamps[name] for name in wanted}

    def _stamps(self) -> dict[str, str]:
        try:
            return dict(line.split() for line in (self.folder / "unpacked").read_text().splitlines())
        except FileNotFoundError:
            return {}

    def _update(self) -> None:
        for name in ("lists/partial", "archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not _KEYS.exists():
            raise GothreadsError(f"cannot fetch Debian's packages: {_KEYS} is missing. Install debian-archive-keyring")
        (self.folder / "sources.list").write_text(f"deb [signed-by={_KEYS}] {_MIRROR} {RELEASE} main\n")
        self._apt("apt-get", "--error-on=any", "update")

    def _closure(self, names: list[str]) -> list[Package]:
        available = {package.name: package for package in _go_packages(self._apt("apt-cache", "dumpavail"))}
        if unknown := [name for name in names if name not in available]:
            raise GothreadsError(f"Debian {RELEASE} has no package {', '.join(unknown)}")
        found, wanted = set[str](), set(names)
        while wanted:
            found |= wanted
            # A dependency that is not available is a virtual package, or an alternative to one that is.
            wanted = {name for package in wanted for name in available[package].depends if name in available} - found
        return [available[name] for name in sorted(found)]

    def _unpack(self, packages: list[Package]) -> None:
        self._apt("apt-get", "download", *(f"{package.name}={package.version}" for package in packages))
        for file in self.folder.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(file), str(self.root)], self.folder)
            file.unlink()

    def _apt(self, *command: str) -> str:
        paths = {"Dir::State": ".", "Dir::State::lists": "lists", "Dir::Cache": ".",
                 "Dir::Etc::sourcelist": "sources.list"}
        settings = {"Dir::State::status": "/dev/null", "Dir::Etc::sourceparts": "-", "Acquire::Retries": "3",
                    "APT::Architecture": "amd64", "APT::Architectures": "amd64", "APT::Sandbox::User": "root",
                    **{name: str(self.folder / path) for name, path in paths.items()}}
        options = [f"-o{name}={value}" for name, value in settings.items()]
        return _run([command[0], *options, *command[1:]], self.folder)


def _go_packages(text: str) -> Iterable[Package]:
    """The packages of Go sources in apt's list of packages; of their dependencies, only other Go sources."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Package: golang-"):
            fields = dict(re.findall(r"(?m)^([\w-]+): (.*)$", paragraph))
            depends = tuple(re.findall(r"golang-[\w.+-]*-dev\b", fields.get("Depends", "")))
            yield Package(fields["Package"], fields["Version"], depends)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS,
                              env=os.environ | {"LC_ALL": "C.UTF-8"})
    except FileNotFoundError:
        raise GothreadsError(f"cannot fetch Debian's packages: there is no {command[0]} on PATH. Run this on Debian, "
                             "or install apt and dpkg") from None
    except subprocess.TimeoutExpired:
        raise GothreadsError(f"cannot fetch Debian's packages: {command[0]} took longer than {_SECONDS} seconds. "
                             "Try again when the network is faster") from None
    if done.returncode:
        shown = " ".join(word for word in command if not word.startswith("-o"))
        raise GothreadsError(f"cannot fetch Debian's packages: {shown} failed:\n{done.stderr.strip()}")
    return done.stdout
