"""The overlay against real Go installations: its edits fit each supported version, and a mismatch says where."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gothreads.build.edit import SUPPORTED, Edit
from gothreads.build.edits import EDITS, LEFT_OUT
from gothreads.build.go_test_edits import TEST_EDITS
from gothreads.build.overlay import ADDED, edited, fingerprint, write_overlay
from gothreads.build.simulation_edits import SIMULATION_EDITS
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.errors import ToolchainError

#: The go commands of other versions to test with, as .ci/conformance installs them.
OTHERS = [path for path in os.environ.get("GOTHREADS_OTHER_GOS", "").split(os.pathsep) if path]


@pytest.fixture(params=[None, *OTHERS])
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    return find_go(request.param)


@pytest.fixture
def found() -> Toolchain:
    return find_go()


def replaced(overlay: Path) -> dict[str, str]:
    content: dict[str, dict[str, str]] = json.loads(overlay.read_text())
    return content["Replace"]


def test_the_edits_fit_and_change_every_file_they_name(toolchain: Toolchain) -> None:
    for edits in ((*EDITS, *TEST_EDITS), SIMULATION_EDITS):
        texts = edited(toolchain, edits)
        assert texts.keys() == {edit.file for edit in edits if edit.applies_to(toolchain.minor)}
        for file, text in texts.items():
            assert text != (toolchain.goroot / "src" / file).read_text(), file


def test_what_is_left_out_is_there(toolchain: Toolchain) -> None:
    for file in LEFT_OUT:
        assert (toolchain.goroot / "src" / file).is_file()


def test_the_edited_runtime_compiles(toolchain: Toolchain, tmp_path: Path) -> None:
    overlay = write_overlay(toolchain, tmp_path, threaded=True)
    environment = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local",
                                "GOEXPERIMENT": "preemptibleloops"}
    done = subprocess.run([toolchain.go, "build", "-overlay", overlay, "runtime", "net", "gothreads/guest"],
                          cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_runtime_that_is_edited_for_simulation_compiles(toolchain: Toolchain, tmp_path: Path) -> None:
    overlay = write_overlay(toolchain, tmp_path, threaded=False, simulate=True)
    done = subprocess.run([toolchain.go, "build", "-overlay", overlay, "sync/atomic"], cwd=tmp_path,
                          env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local"},
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_edit_has_a_reason() -> None:
    for edit in (*EDITS, *TEST_EDITS, *SIMULATION_EDITS):
        assert edit.why
        assert edit.expect != edit.replace
    assert all(LEFT_OUT.values())


def test_a_text_that_is_missing_names_version_file_text_and_supported_versions(found: Toolchain) -> None:
    with pytest.raises(ToolchainError) as raised:
        edited(found, [Edit("runtime/proc.go", "\tno such text", "", "for a test")])
    said = str(raised.value)
    assert said.startswith(f"{found.version}: runtime/proc.go does not have the text that gothreads edits (for a "
                           f"test): expected 1 times, found 0: 'no such")
    assert "Supported: Go 1.25, 1.26, 1.27" in said
    assert "\n" not in said


def test_a_text_that_is_there_too_often_is_an_error(found: Toolchain) -> None:
    with pytest.raises(ToolchainError, match=r"expected 1 times, found \d+"):
        edited(found, [Edit("runtime/proc.go", "func ", "", "for a test")])


def test_a_file_that_is_missing_is_named_with_the_version(found: Toolchain) -> None:
    with pytest.raises(ToolchainError,
                       match=rf"cannot read .*runtime/none\.go of {re.escape(found.version)}: No such file"):
        edited(found, [Edit("runtime/none.go", "x", "", "for a test")])


def test_edits_of_one_file_build_on_each_other(found: Toolchain) -> None:
    first = Edit("runtime/proc.go", 'const haveSysmon = GOARCH != "wasm"', "const haveSysmon = one", "for a test")
    texts = edited(found, [first, Edit("runtime/proc.go", "haveSysmon = one", "haveSysmon = two", "for a test")])
    assert "const haveSysmon = two\n" in texts["runtime/proc.go"]


@pytest.mark.parametrize(("since", "until", "versions"), [
    (None, None, ["1.25", "1.26", "1.27"]), ("1.26", None, ["1.26", "1.27"]), (None, "1.26", ["1.25"]),
    ("1.26", "1.27", ["1.26"]), ("1.26", "1.26", []),
])
def test_an_edit_is_for_the_versions_from_since_and_before_until(since: str | None, until: str | None,
                                                                 versions: list[str]) -> None:
    edit = Edit("runtime/proc.go", "old", "new", "for a test", since=since, until=until)
    assert [version for version in SUPPORTED if edit.applies_to(version)] == versions


def test_every_edit_is_for_a_supported_version() -> None:
    for edit in (*EDITS, *TEST_EDITS):
        assert any(map(edit.applies_to, SUPPORTED)), edit.why


def test_a_text_that_a_later_go_has_not_is_not_expected_there(found: Toolchain) -> None:
    own = Edit("runtime/proc.go", 'const haveSysmon = GOARCH != "wasm"', "const haveSysmon = true", "for a test",
               since=found.minor)
    older = Edit("runtime/proc.go", "the text of an older Go", "", "for a test", until=found.minor)
    assert edited(found, [older, own]) == edited(found, [own])


def test_the_overlay_is_the_same_file_each_time(found: Toolchain, tmp_path: Path) -> None:
    extra = {tmp_path / "b.go": "package b\n", tmp_path / "a.go": "package a\n"}
    overlay = write_overlay(found, tmp_path, threaded=True, extra=extra)
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}  # a file that is written anew has another one
    assert write_overlay(found, tmp_path, threaded=True, extra=dict(reversed(extra.items()))) == overlay
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before
    assert list(replaced(overlay)) == sorted(replaced(overlay))


def test_the_overlay_refers_to_files_that_are_there(found: Toolchain, tmp_path: Path) -> None:
    for threaded in (True, False):
        for target, source in replaced(write_overlay(found, tmp_path, threaded=threaded)).items():
            assert Path(target).is_absolute()
            if source:
                assert Path(source).is_file()
            else:
                assert target.removeprefix(f"{found.goroot}/src/") in LEFT_OUT


def test_only_threaded_overlays_touch_go_itself(found: Toolchain, tmp_path: Path) -> None:
    guest, *packages = (str(found.goroot / "src" / name)
                        for name in ("gothreads/guest", "runtime", "syscall", "internal/syscall/unix", "internal/poll",
                                     "os", "os/exec", "os/user", "net", "time"))
    single = replaced(write_overlay(found, tmp_path, threaded=False))
    threaded = replaced(write_overlay(found, tmp_path, threaded=True))
    guests = {guest, f"{guest}/idle", f"{guest}/slot", f"{guest}/wire"}
    assert {os.path.dirname(target) for target in single} == guests
    assert single.items() <= threaded.items()
    assert {os.path.dirname(target) for target in threaded} == guests | set(packages)


def test_a_file_that_another_gothreads_left_in_a_copy_of_the_guest_package_is_left_out(found: Toolchain, tmp_path: Path,
                                                                                       ) -> None:
    copy = tmp_path / "guest"
    (copy / "wire").mkdir(parents=True)
    older = [copy / "older.go", copy / "wire" / "older.go"]
    for path in (*older, copy / "guest.go", copy / "README.md"):
        path.write_text("package guest\n")
    files = replaced(write_overlay(found, tmp_path / "cache", threaded=False, guest=copy))
    assert [path for path, by in files.items() if not by] == list(map(str, older))
    assert files[str(copy / "guest.go")]


def test_further_files_are_overlaid_with_their_text(found: Toolchain, tmp_path: Path) -> None:
    overlay = write_overlay(found, tmp_path, threaded=False, extra={Path("/elsewhere/x.go"): "package x\n"})
    assert Path(replaced(overlay)["/elsewhere/x.go"]).read_text() == "package x\n"


def test_gos_own_folder_is_not_written_to(found: Toolchain, tmp_path: Path) -> None:
    runtime = found.goroot / "src" / "runtime"
    before = {path: path.stat().st_mtime_ns for path in runtime.iterdir()}
    write_overlay(found, tmp_path, threaded=True)
    assert {path: path.stat().st_mtime_ns for path in runtime.iterdir()} == before


def test_go_files_are_as_gofmt_writes_them(found: Toolchain) -> None:
    gofmt = found.goroot / "bin" / "gofmt"
    if not gofmt.exists():
        pytest.skip("this Go has no gofmt")
    done = subprocess.run([gofmt, "-l", *ADDED.rglob("*.go")], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_the_fingerprint_is_stable() -> None:
    assert fingerprint() == fingerprint()
    assert re.fullmatch("[0-9a-f]{32}", fingerprint())


def test_the_guest_package_is_compiled_for_each_goroot(found: Toolchain, tmp_path: Path) -> None:
    """Otherwise stacks name files of the installation that has filled Go's cache."""
    marks = []
    for name in ("one", "two"):
        other = replace(found, goroot=tmp_path / name)
        files = replaced(write_overlay(other, tmp_path, threaded=False))
        marks.append(Path(files[str(other.goroot / "src/gothreads/guest/zz_goroot.go")]).read_text())
    assert marks[0] != marks[1]
    assert not [file for file in replaced(write_overlay(found, tmp_path, threaded=False, guest=tmp_path / "copy"))
                if file.endswith("zz_goroot.go")], "there it would be a file of the program's"
