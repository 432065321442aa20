"""The conformance runner on real programs: what counts as a finding, that reasons are checked, and that programs are
really run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance import libraries, testfolder_results
from conformance.debian import Debian
from conformance.libraries import Compared, Library, runs, select
from conformance.plan import Run
from conformance.record import Record
from conformance.table import write_table
from conformance.testfolder import Outcome, Programs, names
from conformance.testfolder_results import Result
from gothreads.build.toolchain import find_go
from gothreads.errors import GothreadsError, MisuseError


def record(verdict: str, **tests: str) -> Record:
    return Record("p", "", "threaded", "k", verdict, 1.0, tests,
                  {t: "needs a file system" for t, v in tests.items() if v == "skip"})


def compare(native: Record, threaded: Record, known: Record | None = None, **reasons: str) -> Compared:
    return Compared(Library("l", "golang-l-dev", ("p",), differs={"p": reasons}), Run("p"), native, threaded, known)


def test_a_test_that_fails_only_on_threads_is_a_finding() -> None:
    one = compare(record("fail", A="pass", B="pass", C="fail"), record("fail", A="pass", B="fail", C="fail"))
    assert (one.findings(), one.outdated(), dict(one.lacking())) == (["B"], [], {})


def test_what_a_package_that_broke_off_did_not_reach_is_a_finding() -> None:
    one = compare(record("pass", A="pass", B="pass"), record("fail", A="fail"))
    assert one.findings() == ["A", "B"]


def test_a_package_that_does_not_compile_on_threads_is_a_finding() -> None:
    assert compare(record("pass", A="pass"), record("build-fail")).findings() == ["A"]


def test_what_is_skipped_or_not_built_for_wasip1_is_no_finding() -> None:
    native = record("pass", **{"A": "pass", "B": "pass", "B/x": "pass", "C": "pass"})
    one = compare(native, record("pass", A="pass", B="skip"))
    assert one.findings() == []
    assert dict(one.lacking()) == {"needs a file system": 2, "in files that are not for wasip1": 1}


def test_a_part_that_is_lost_from_a_test_that_passes_is_a_finding() -> None:
    assert compare(record("pass", **{"A": "pass", "A/x": "pass"}), record("pass", A="pass")).findings() == ["A/x"]


def test_a_reason_holds_for_the_test_and_its_parts() -> None:
    one = compare(record("pass", **{"A": "pass", "A/x": "pass", "AB": "pass"}), record("pass", AB="pass"),
                  record("fail", A="fail"), A="needs exec")
    assert (one.findings(), one.outdated(), dict(one.lacking())) == ([], [], {"needs exec": 2})


@pytest.mark.parametrize(("native", "known"), [
    (record("pass", A="pass"), record("pass", A="pass")),  # passes on threads
    (record("fail", A="fail"), record("fail", A="fail")),  # fails natively
    (record("pass"), record("pass")),                      # is not there
])
def test_a_reason_that_no_longer_applies_is_reported(native: Record, known: Record) -> None:
    assert compare(native, record("pass"), known, A="needs exec").outdated() == ["A"]


def test_tests_with_a_reason_run_by_themselves() -> None:
    library = Library("l", "golang-l-dev", ("p", "q"), differs={"p": {"TestA": "x", "TestB/sub.1": "y"}})
    [(plain, threaded, known), (other, same, none)] = runs(library, "1.0-1", Path("/g"))
    assert threaded.left_out is not None
    assert known is not None
    assert threaded.left_out[0] == r"^TestA$|^TestB$/^sub\.1$"
    assert f"-run={threaded.left_out[0]}" in known.flags
    assert (plain.left_out, none, other) == (None, None, same)
    assert plain.environment == {"GO111MODULE": "off", "GOPATH": "/g", "GOFLAGS": ""}


def test_libraries_are_chosen_by_name() -> None:
    assert [one.name for one in select(libraries.SMOKE)] == list(libraries.SMOKE)
    assert select([]) == list(libraries.LIBRARIES)
    with pytest.raises(MisuseError, match="there is no library 'nosuch' to test; there are: chi, "):
        select(["nosuch"])


def test_the_table_has_a_line_for_each_library(tmp_path: Path) -> None:
    one = compare(record("fail", A="pass", B="pass", C="fail", D="pass"), record("fail", A="pass", D="fail"),
                  record("fail", B="fail"), B="needs exec")
    versions = {"golang-l-dev": "1.0-1"}
    write_table(tmp_path, "t", "Libraries", libraries.figures([one], versions), libraries.markdown([one], versions))
    assert "| l | 1.0-1 | 1 | 3 | 1 | 1 needs exec; **p D** | C |" in (tmp_path / "t.md").read_text()
    assert json.loads((tmp_path / "t.json").read_text())["p"]["findings"] == ["D"]


def test_no_apt_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    keys = tmp_path / "keys.gpg"
    keys.touch()
    monkeypatch.setattr("conformance.debian._KEYS", keys)
    with pytest.raises(GothreadsError, match="cannot fetch Debian's packages: there is no apt-get on PATH"):
        Debian(tmp_path).provide(["golang-l-dev"], lambda what: None)


def test_what_is_unpacked_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    debian = Debian(tmp_path)
    debian.root.mkdir(parents=True)
    (debian.folder / "unpacked").write_text("golang-l-dev 1.0-1\n")
    assert debian.provide(["golang-l-dev"], lambda what: None) == {"golang-l-dev": "1.0-1"}


def test_of_a_crash_only_the_message_is_compared() -> None:
    native = Outcome(2, "x", "panic: at 0xc000\n\ngoroutine 1 [running]:\nmain.main()\n")
    assert native.compared == Outcome(2, "x", "panic: at 0x1234\n\ngoroutine 7 [running]:\nother\n").compared
    assert native.compared != Outcome(2, "x", "panic: other\n\ngoroutine 1 [running]:\n").compared
    assert native.compared != Outcome(1, "x", native.err).compared
    assert Outcome(0, "0x1", "").compared != Outcome(0, "0x2", "").compared


def test_reasons_of_programs_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testfolder_results, "DIFFERENT", {"a.go": "a reason", "b.go": "a reason"})
    results = [Result("a.go", "differs"), Result("b.go", "same"), Result("c.go", "differs"),
               Result("d.go", "does not compile, threaded"),
               Result("e.go", "fails natively")]
    assert [one.name for one in testfolder_results.findings(results)] == ["c.go", "d.go"]
    assert testfolder_results.outdated(results) == ["b.go"]
    assert "| a.go | a reason |" in testfolder_results.markdown(results)
    assert "| c.go | **differs** |" in testfolder_results.markdown(results)


def test_a_cut_record_of_programs_is_no_record(tmp_path: Path) -> None:
    testfolder_results.save(tmp_path / "x.json", "k", [Result("a.go", "differs", ["said"])])
    assert testfolder_results.load(tmp_path / "x.json", "k") == [Result("a.go", "differs", ["said"])]
    assert testfolder_results.load(tmp_path / "x.json", "other") is None
    (tmp_path / "x.json").write_text('{"key": "k", ')
    assert testfolder_results.load(tmp_path / "x.json", "k") is None


PROGRAMS = {
    "says.go": ("// run\n\npackage main\n\nfunc main() { println(\"to stderr\"); print(1) }\n", "to stderr\n1"),
    "exits.go": ("// run\n\npackage main\n\nimport \"os\"\n\nfunc main() { os.Exit(0) }\n", ""),
    "after.go": ("// run\n\npackage main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"after\") }\n", "after\n"),
    "named.go": ("// run\n\npackage main\n\nimport \"fmt\"\n\ntype T struct{}\n\nfunc main() { fmt.Printf(\"%T\\n\", "
                 "T{}) }\n", "main.T\n"),
    "early.go": ("// run\n\npackage main\n\nimport (\n\t\"os\"\n\t\"runtime\"\n)\n\nfunc init() {\n\tif runtime.GOARCH "
                 "== \"wasm\" {\n\t\tprint(\"on wasm\")\n\t}\n\tos.Exit(0)\n}\n\nfunc main() {}\n", None),
    "unlinked.go": ("// run\n\npackage main\n\nimport _ \"unsafe\"\n\n//go:linkname missing runtime.missing\nfunc "
                    "missing()\n\nfunc main() { missing() }\n", None),
    "foreign.go": ("// run\n\n//go:build !wasm\n\npackage main\n\nfunc main() {}\n", None),
    "broken.go": ("// run\n\npackage main\n\nfunc main() { undefined() }\n", None),
    "compiled.go": ("// compile\n\npackage main\n\nfunc main() {}\n", None),
    "parts.go": ("// rundir\n\npackage ignored\n", "of a part\n"),
    "parts.dir/a.go": ("package a\n\nimport \"fmt\"\n\nfunc F() { fmt.Println(\"of a part\") }\n", None),
    "parts.dir/main.go": ("package main\n\nimport \"./a\"\n\nfunc main() { a.F() }\n", None),
}


@pytest.mark.long
def test_programs_are_compared_with_native_in_a_batch_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    for name, (text, out) in PROGRAMS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if out is not None:
            path.with_suffix(".out").write_text(out)
    chosen = names(folder)
    assert chosen == [*sorted(set(PROGRAMS) - {"compiled.go", "parts.go", "parts.dir/a.go", "parts.dir/main.go"}),
                      "parts.go"]
    assert names(folder, ["s*.go"]) == ["says.go"]
    with pytest.raises(MisuseError, match="no program that matches nosuch"):
        names(folder, ["nosuch"])
    said: list[str] = []
    results = Programs(find_go(), folder, tmp_path / "work", said.append).perform(chosen)
    assert {one.name: one.state for one in results} == {
        "after.go": "same", "broken.go": "does not compile, native", "early.go": "differs", "exits.go": "same",
        "foreign.go": "not for WebAssembly",
        "named.go": "same", "parts.go": "same", "says.go": "same", "unlinked.go": "does not compile, native"}
    # What a batch can do was not run alone.
    alone = {what.split()[0] for what in said if " alone, " in what}
    assert alone == {"broken.go", "early.go", "unlinked.go"}
    [early] = [one for one in results if one.name == "early.go"]
    assert early.detail == ["native: exit code 0, stdout '', stderr ''",
                            "threaded: exit code 0, stdout '', stderr 'on wasm'"]
