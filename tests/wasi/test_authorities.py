"""Which certificates of authorities a module gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from gothreads.wasi import authorities
from gothreads.wasi.authorities import with_authorities
from gothreads.wasi.settings import Mount

PLACE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's certificates."""
    made = tmp_path / "ca-certificates.crt"
    made.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    return made


def test_this_machines_are_mounted_and_named(file: Path) -> None:
    mounts = [Mount(file.parent, "/data")]
    assert with_authorities({"A": "b"}, mounts) == ({"A": "b", "SSL_CERT_FILE": PLACE},
                                                    [*mounts, Mount(file, PLACE, read_only=True)])


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_those_that_the_environment_names_are_used(file: Path, variable: str) -> None:
    assert with_authorities({variable: "/mine"}, []) == ({variable: "/mine"}, [])


@pytest.mark.parametrize("at", ["/", "/etc/", "/etc/ssl/certs", PLACE])
def test_those_in_a_mount_are_used(file: Path, tmp_path: Path, at: str) -> None:
    empty = Mount(tmp_path / "empty", at)
    assert with_authorities({}, [empty]) == ({}, [empty])
    there = empty.host / Path(PLACE).relative_to(Path(at))
    there.parent.mkdir(parents=True, exist_ok=True)
    there.touch()
    assert with_authorities({}, [empty]) == ({"SSL_CERT_FILE": PLACE}, [empty])


def test_there_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(authorities, "_FILES", ())
    assert with_authorities({}, []) == ({}, [])
