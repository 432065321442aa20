"""Time zones of the host."""

from __future__ import annotations

import errno
import io
import os
import zoneinfo
from pathlib import Path

import pytest

import gothreads
from gothreads.wasi import zones
from tests.support.modules import written
from tests.support.waiting import PATIENCE

PROGRAM = """package main

import (
	"fmt"
	"time"
)

func main() {
	for _, name := range []string{"Europe/Berlin", "America/Argentina/Buenos_Aires", "UTC", "Nowhere", "posix/../UTC"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).In(zone))
	}
}
"""


@pytest.mark.long
def test_a_program_loads_time_zones_without_a_mount(tmp_path: Path) -> None:
    out = io.StringIO()
    with gothreads.open(written(tmp_path, PROGRAM), stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    assert out.getvalue().splitlines() == [
        "2026-07-01 14:00:00 +0200 CEST", "2026-07-01 09:00:00 -0300 -03", "2026-07-01 12:00:00 +0000 UTC",
        "unknown time zone Nowhere", "time: invalid location name"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of time zones, and files beside it."""
    folder = tmp_path / "zoneinfo"
    (folder / "Area").mkdir(parents=True)
    for path in (folder / "Area" / "City", tmp_path / "outside"):
        path.write_bytes(b"TZif" + path.name.encode())
    (folder / "Area" / "Link").symlink_to("City")
    (folder / "localtime").symlink_to(tmp_path / "outside")
    (folder / "Parent").symlink_to("..")
    (folder / "README").write_text("not a time zone")
    os.mkfifo(folder / "fifo")
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(folder),))
    return folder


def test_only_time_zones_in_the_folder_are_read(folder: Path) -> None:
    assert zones.zone("Area/City") == zones.zone("Area/Link") == b"TZifCity"
    for name in ("", "/", "Area", "Area/", "Area/Nowhere", "README", "fifo", "localtime", "../outside", "Parent/outside",
                 "Area/../Area/City", str(folder / "Area" / "City"), "Area//City", "Area/City\0", "Area/City\n", "é"):
        with pytest.raises(OSError, match="no time zone") as refused:
            zones.zone(name)
        assert refused.value.errno == errno.ENOENT
