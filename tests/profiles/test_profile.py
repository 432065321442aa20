"""Profiles as values: the format of `go tool pprof`, tables, flame graphs."""

from __future__ import annotations

import contextlib
import tracemalloc
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest

import gothreads
from gothreads.profiles import pprof
from gothreads.profiles.profile import Profile
from gothreads.profiles.samples import Line, Sample, ValueType
from tests.conftest import assert_linear
from tests.support.go_tools import go_tool

CPU = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))
MAIN = Line("main.main", "/app/main.go", 9, 5)
WORK = Line("main.work[...]", "/app/work.go", 3, 1)
MS = 1_000_000


def profile(*samples: Sample) -> Profile:
    return Profile.of("cpu", CPU, samples, seconds=2.0, period=(CPU[1], 10 * MS), module="app", note="a note")


def example() -> Profile:
    return profile(Sample((WORK, MAIN), (30, 300 * MS), (("user", "a"),)), Sample((MAIN,), (10, 100 * MS)),
                   Sample((WORK, MAIN), (20, 200 * MS), (("user", "a"),)))


def test_go_tool_pprof_opens_it(tmp_path: Path) -> None:
    example().save(tmp_path / "cpu.pb.gz")
    lines = go_tool("pprof", "-top", tmp_path / "cpu.pb.gz").splitlines()
    assert "File: app" in lines
    assert "Type: cpu" in lines
    assert any(line.split() == ["500ms", "83.33%", "83.33%", "500ms", "83.33%", "main.work[...]"] for line in lines)
    assert any(line.split() == ["100ms", "16.67%", "100%", "600ms", "100%", "main.main"] for line in lines)


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    example().save(tmp_path / "cpu.pb.gz")
    loaded = Profile.load(tmp_path / "cpu.pb.gz")
    assert (loaded.samples, loaded.types) == (example().samples, CPU)
    assert (loaded.kind, loaded.seconds, loaded.note) == ("cpu", 2.0, "a note")


def test_equal_stacks_are_one_sample_and_negative_differences_stay() -> None:
    assert len(example().samples) == 2
    less = Profile.decode(profile(Sample((MAIN,), (-1, -5))).data)
    assert less.samples == (Sample((MAIN,), (-1, -5)),)


def test_the_table_shows_a_function_that_calls_itself_once() -> None:
    table = profile(Sample((WORK, WORK, WORK, MAIN), (1, 10 * MS))).top()
    assert table.splitlines()[0] == "cpu, 2.0 s, 10.00 ms in all"
    assert table.splitlines()[-2].split() == ["10.00", "ms", "100.0%", "10.00", "ms", "100.0%", "main.work[...]"]


def test_of_many_functions_the_table_shows_the_first() -> None:
    table = profile(*(Sample((Line(f"main.f{n}"),), (n + 1, n + 1)) for n in range(30))).top(3)
    assert [line.split()[-1] for line in table.splitlines()[3:6]] == ["main.f29", "main.f28", "main.f27"]
    assert table.endswith("… and 27 more")


def test_a_flame_graph_is_one_file_whose_names_are_only_text(tmp_path: Path) -> None:
    bad = Line('main.<script>alert("1")</script>]]>&', "/a<b>.go")
    graph = profile(Sample((bad, MAIN), (3, 30)), Sample((WORK, MAIN), (1, 10))).flame_graph()
    tree = ElementTree.fromstring(graph)  # well-formed
    names = {name for element in tree.iter() if (name := element.get("data-name"))}
    assert names == {"all", "main.main", WORK.function, bad.function}
    assert len([element for element in tree.iter() if element.tag.endswith("script")]) == 1
    assert "http" not in graph.replace("http://www.w3.org/", "")
    width = {element.get("data-name"): float(element.get("data-w") or 0) for element in tree.iter()}
    assert width[bad.function] == pytest.approx(0.75 * width["all"])


def test_a_flame_graph_of_nothing_is_empty() -> None:
    assert "all: 0.00 s" in profile().flame_graph()


@pytest.mark.parametrize("content", [
    b"", b"no profile", b"\x1f\x8b", zlib.compress(b"x"), example().data[:40], b"\x0a\xff\xff\xff\xff\x0f",
    b"\xff" * 30, b"\x12\x02\x08\x09"])
def test_what_is_no_profile_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pb.gz").write_bytes(content)
    with pytest.raises(gothreads.MisuseError, match=r"x\.pb\.gz is not a profile that `go tool pprof` opens"):
        Profile.load(tmp_path / "x.pb.gz")


def test_damaged_profiles_raise_nothing_else() -> None:
    whole = zlib.decompress(example().data, 31)
    for at in range(len(whole)):
        for value in (0, 0x7F, 0x80, 0xFF, whole[at] ^ 8):
            with contextlib.suppress(gothreads.MisuseError):
                Profile.decode(whole[:at] + bytes([value]) + whole[at + 1:])


def test_a_profile_of_very_many_fields_or_frames_is_refused_before_it_takes_room(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def location(lines: int) -> bytes:
        return pprof._bytes(4, pprof._number(1, 1) + pprof._bytes(4, pprof._number(1, 1)) * lines)
    whole = zlib.decompress(example().data, 31)
    sample = pprof._bytes(2, pprof._numbers(1, [1] * 3000) + pprof._numbers(2, [1, 1]))
    tracemalloc.start()
    try:
        with pytest.raises(gothreads.MisuseError):
            Profile.decode(whole + location(3000) + sample)  # 9 million frames
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    fields = whole + pprof._number(99, 1) * 1000
    assert Profile.decode(fields).samples == example().samples
    monkeypatch.setattr(pprof, "MOST_FIELDS", 1000)
    with pytest.raises(gothreads.MisuseError):
        Profile.decode(fields)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(gothreads.GothreadsError, match="cannot read .*none"):
        Profile.load(tmp_path / "none")


def test_a_trace_has_no_table() -> None:
    trace = Profile("trace", b"go 1.27 trace\0\0\0", 1.0)
    assert str(trace) == "trace, 1.0 s, 16 bytes"
    for use in (trace.top, trace.flame_graph, trace.functions):
        with pytest.raises(gothreads.MisuseError, match="go tool trace"):
            use()


def test_time_is_linear_in_the_length_of_stacks() -> None:
    def make(size: int) -> tuple[Line, ...]:
        return tuple(Line(f"main.f{number}") for number in range(size))
    assert_linear(make, lambda stack: Profile.decode(profile(Sample(stack, (1, 10))).data).flame_graph())
