"""Go sources from Debian's packages, unpacked into a folder: no root, nothing is installed.

apt keeps its lists and downloads in that folder too, of one Debian release whatever this machine runs, so that the versions, and
with them what is known of their tests, are the same everywhere. apt checks the signatures with the keys of Debian that the
machine has.
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

#: Told what is done now.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """One version of a Debian package, and the Go packages that it depends on."""

    name: str
    version: str
    depends: tuple[str, ...]


class Debian:
    """Packages of the release, in a folder: `root` is where they are unpacked."""

    def __init__(self, folder: Path) -> None:
        self.folder = (folder / RELEASE).absolute()
        self.root = self.folder / "root"

    @property
    def gopath(self) -> Path:
        return self.root / "usr/share/gocode"

    def provide(self, names: Iterable[str], progress: Progress) -> dict[str, str]:
        """Unpack these packages and what they depend on, unless they are; name -> version."""
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
                # Only now: with a package, what it depends on is there.
                write_atomically(self.folder / "unpacked", "".join(f"{name} {version}\n" for name, version in sorted(stamps.items())).encode())
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
            raise GothreadsError(f"Debian's packages cannot be had: {_KEYS} is missing. Install debian-archive-keyring")
        (self.folder / "sources.list").write_text(f"deb [signed-by={_KEYS}] {_MIRROR} {RELEASE} main\n")
        self._apt("apt-get", "--error-on=any", "update")

    def _closure(self, names: list[str]) -> list[Package]:
        there = {package.name: package for package in _paragraphs(self._apt("apt-cache", "dumpavail"))}
        if unknown := [name for name in names if name not in there]:
            raise GothreadsError(f"Debian {RELEASE} has no package {', '.join(unknown)}")
        found, wanted = set[str](), set(names)
        while wanted:
            found |= wanted
            # One that is not there is another's second name, or the second choice.
            wanted = {name for package in wanted for name in there[package].depends if name in there} - found
        return [there[name] for name in sorted(found)]

    def _unpack(self, packages: list[Package]) -> None:
        self._apt("apt-get", "download", *(f"{package.name}={package.version}" for package in packages))
        for file in self.folder.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(file), str(self.root)], self.folder)
            file.unlink()

    def _apt(self, *command: str) -> str:
        state = {"Dir::State": ".", "Dir::State::lists": "lists", "Dir::State::status": "/dev/null", "Dir::Cache": ".", "Dir::Etc::sourceparts": "-",
                 "Dir::Etc::sourcelist": "sources.list", "Acquire::Retries": "3", "APT::Architecture": "amd64", "APT::Architectures": "amd64",
                 "APT::Sandbox::User": "root"}
        options = [f"-o{name}={self.folder / value if name.startswith('Dir::') and value not in ('-', '/dev/null') else value}"
                   for name, value in state.items()]
        return _run([command[0], *options, *command[1:]], self.folder)


def _paragraphs(text: str) -> Iterable[Package]:
    """Debian's packages of Go sources. Of what they depend on only other Go sources matter."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Package: golang-"):
            fields = dict(re.findall(r"(?m)^([\w-]+): (.*)$", paragraph))
            depends = tuple(re.findall(r"golang-[\w.+-]*-dev\b", fields.get("Depends", "")))
            yield Package(fields["Package"], fields["Version"], depends)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, env=os.environ | {"LC_ALL": "C.UTF-8"})
    except FileNotFoundError:
        raise GothreadsError(f"Debian's packages cannot be had: there is no {command[0]} here. Run this on Debian, or install apt and dpkg") from None
    except subprocess.TimeoutExpired:
        raise GothreadsError(f"Debian's packages cannot be had: {command[0]} took longer than {_SECONDS} seconds") from None
    if done.returncode:
        raise GothreadsError(f"Debian's packages cannot be had: {' '.join(word for word in command if not word.startswith('-o'))} failed:\n"
                             f"{done.stderr.strip()}")
    return done.stdout
