"""examples/streams: bodies that are read while they are answered."""

from __future__ import annotations

import gzip
import io
import json

import gothreads
from tests.support.modules import ROOT

EXAMPLE = ROOT / "examples" / "streams"


def test_it_compresses_and_counts_what_comes() -> None:
    text = b"a line\n" * 50_000 + b"x" * 100_000
    with gothreads.open(EXAMPLE) as app:
        packed = b"".join(app.stream("gzip", io.BytesIO(text)))
        assert gzip.decompress(packed) == text
        assert len(packed) < len(text) / 10
        events = b"".join(app.stream("count", io.BytesIO(text))).decode().strip().split("\n\n")
    event, data = events[-1].splitlines()
    assert event == "event: end"
    assert json.loads(data.removeprefix("data: ")) == {"Lines": 50_000, "Bytes": len(text)}
