"""read_signatures() with the real go, and Signature as JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gothreads.build.directives import meant_as_directives
from gothreads.build.signatures import Signatures, read_signatures
from gothreads.build.toolchain import find_go
from gothreads.errors import BuildError
from gothreads.wasm.signature import ImportSignature, Parameter, Signature

Read = Callable[..., list[Signature]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(source, …) returns the signatures in these sources, as files of one folder: f0.go, f1.go…"""

    def read(*sources: str) -> list[Signature]:
        files = [tmp_path / f"f{number}.go" for number in range(len(sources))]
        for file, source in zip(files, sources, strict=True):
            file.write_text(source, encoding="utf-8")
        return list(read_signatures(files).exports)

    return read


def types_of(signature: Signature) -> list[str]:
    return [parameter.type for parameter in signature.params]


def test_whole_signature(read: Read) -> None:
    source = """package main

// add sums a and b.
//
// It wraps around: "<&>".
//
//go:wasmexport sum
func add(a, b int32) int32 { return a + b }
"""
    assert read(source) == [
        Signature(
            name="sum",
            go="func add(a, b int32) int32",
            function="add",
            package="main",
            doc='add sums a and b.\n\nIt wraps around: "<&>".\n',
            params=(Parameter("a", "int32"), Parameter("b", "int32")),
            result="int32",
            position="f0.go:8",
        )
    ]


@pytest.mark.parametrize(
    ("go_type", "expected"),
    [
        *((name, name) for name in ("bool", "int32", "uint32", "int64", "uint64", "float32", "float64")),
        *((name, name) for name in ("uintptr", "unsafe.Pointer", "string")),
        ("rune", "int32"),
        ("*int32", "pointer"),
        ("*time.Time", "pointer"),
        ("*struct { x, y int32 }", "pointer"),
        ("(int64)", "int64"),
        ("time.Duration", "?"),
        ("[]byte", "?"),
        ("int", "?"),
        ("Missing", "?"),
    ],
)
def test_types(read: Read, go_type: str, expected: str) -> None:
    source = f"package main\n//go:wasmexport f\nfunc f(value {go_type}) {go_type} {{ panic(0) }}\n"
    [signature] = read(source)
    assert types_of(signature) == [expected]
    assert signature.result == expected


def test_named_types_and_aliases_of_the_package(read: Read) -> None:
    exporting = """package main
type Celsius float64
type Warm Celsius
//go:wasmexport f
func f(c Celsius, w Warm, a Alias, n Node, d Span, u Raw) Alias { panic(0) }
"""
    declaring = """package main
type (
	Alias = (Warm)
	Node *struct{ next Node }
	Span time.Duration
	Raw = unsafe.Pointer
)
"""
    [signature] = read(exporting, declaring)
    assert types_of(signature) == ["float64", "float64", "float64", "pointer", "?", "unsafe.Pointer"]
    assert signature.result == "float64"


def test_predeclared_name_declared_anew(read: Read) -> None:
    [signature] = read("package main\ntype string uint32\n//go:wasmexport f\nfunc f(s string) {}\n")
    assert types_of(signature) == ["uint32"]


def test_types_in_a_cycle_are_unknown(read: Read) -> None:
    [signature] = read("package main\ntype A B\ntype B A\ntype C C\n//go:wasmexport f\nfunc f(a A, c C) {}\n")
    assert types_of(signature) == ["?", "?"]


def test_other_package_in_the_same_folder_keeps_its_types(read: Read) -> None:
    [signature] = read(
        "package p\n//go:wasmexport f\nfunc f(t T) {}\n",
        "package p_test\ntype T int32\n",
    )
    assert types_of(signature) == ["?"]


def test_same_type_name_in_two_folders(tmp_path: Path) -> None:
    files = []
    for folder, underlying in (("a", "int32"), ("b", "string")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "export.go").write_text(f"package p\n//go:wasmexport {folder}\nfunc f(t T) {{}}\n")
        (tmp_path / folder / "type.go").write_text(f"package p\ntype T {underlying}\n")
        files += [tmp_path / folder / "type.go", tmp_path / folder / "export.go"]
    assert [str(signature) for signature in read_signatures(files).exports] == [
        "a(t: int32) -> None",
        "b(t: string) -> None",
    ]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ("", []),
        ("a, b int32, c bool", ["a", "b", "c"]),
        ("int32, bool", ["arg0", "arg1"]),
        ("a, _ int32, _ bool", ["a", "arg1", "arg2"]),
        ("größe float64", ["größe"]),
    ],
)
def test_parameter_names(read: Read, params: str, names: list[str]) -> None:
    [signature] = read(f"package main\n//go:wasmexport f\nfunc f({params}) {{}}\n")
    assert [parameter.name for parameter in signature.params] == names
    assert signature.go == f"func f({params})"


def test_declaration_over_several_lines(read: Read) -> None:
    source = """package main

//go:wasmexport f
func f(
	a int32, // first
	p *struct {
		x, y int32
	},
) (sum int32) {
	return
}
"""
    [signature] = read(source)
    assert signature.go == "func f(a int32, p *struct{x, y int32}) (sum int32)"
    assert signature.position == "f0.go:4"
    assert signature.result == "int32"


def test_sorted_by_export_name(read: Read) -> None:
    source = "package main\n//go:wasmexport {}\nfunc f() {{}}\n//go:wasmexport {}\nfunc g() {{}}\n"
    assert [s.name for s in read(source.format("d", "b"), source.format("c", "a"))] == ["a", "b", "c", "d"]


def test_directive_before_doc_text_and_among_others(read: Read) -> None:
    source = ("package main\n//go:wasmexport my-export.f\n//go:noinline\n\n// f does.\nfunc f() {}\n\n// g does "
              "not.\nfunc g() {}\n")
    [signature] = read(source)
    assert (signature.name, signature.function, signature.doc) == ("my-export.f", "f", "f does.\n")


@pytest.mark.parametrize(
    "source",
    [
        "package main\n// //go:wasmexport f\nfunc f() {}\n",
        "package main\nvar text = `\n//go:wasmexport f\n`\nfunc f() {}\n",
        "package main\n//go:wasmexport\nfunc f() {}\n",
        "package main\n//go:wasmexport a b\nfunc f() {}\n",
        "package main\n//go:wasmexported f\nfunc f() {}\n",
        "package main\n//go:wasmexport f\nvar v int32\nfunc f() {}\n",
        "package main\nfunc f() {}\n//go:wasmexport f\n",
        "package main\nfunc f() {\n//go:wasmexport g\n}\nfunc g() {}\n",
        "package main\ntype T int32\n//go:wasmexport f\nfunc (t T) f() {}\n",
    ],
)
def test_not_an_export(read: Read, source: str) -> None:
    assert read(source) == []


def test_a_program_without_directives_has_no_signatures(tmp_path: Path) -> None:
    file = tmp_path / "main.go"
    file.write_text("package main\nfunc main() {}\n")
    assert read_signatures([file]) == read_signatures([]) == Signatures()


def test_broken_file_is_skipped(read: Read) -> None:
    signatures = read(
        "package main\n//go:wasmexport broken\nfunc broken( {\n",
        "package main\n//go:wasmexport whole\nfunc whole() {}\n",
        "//go:wasmexport\n",
    )
    assert [signature.name for signature in signatures] == ["whole"]


def test_a_missing_file_is_a_build_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"main\.go: "):
        read_signatures([tmp_path / "main.go"])


def imports_of(folder: Path, source: str) -> list[ImportSignature]:
    file = folder / "f0.go"
    file.write_text(source, encoding="utf-8")
    return list(read_signatures([file]).imports)


def test_an_import_has_its_module(tmp_path: Path) -> None:
    source = """package main

type level int32

// log writes a line.
//
//go:wasmimport env write-line
//go:noescape
func log(at level, text string) bool
//go:wasmimport a f
func f(*byte, uintptr)
"""
    assert imports_of(tmp_path, source) == [
        ImportSignature("f", "func f(*byte, uintptr)", "f", "main", "",
                        (Parameter("arg0", "pointer"), Parameter("arg1", "uintptr")), None, "f0.go:11", "a"),
        ImportSignature("write-line", "func log(at level, text string) bool", "log", "main", "log writes a line.\n",
                        (Parameter("at", "int32"), Parameter("text", "string")), "bool", "f0.go:9", "env"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        "package main\n//go:wasmimport env\nfunc f()\n",
        "package main\n//go:wasmimport env f g\nfunc f()\n",
        "package main\n//go:wasmimport env f\nfunc f() {}\n",
        "package main\n//go:wasmimport env f\nvar v int32\nfunc f()\n",
        "package main\n// //go:wasmimport env f\nfunc f()\n",
        "package main\nfunc f()\n",
    ],
)
def test_not_an_import(tmp_path: Path, source: str) -> None:
    assert imports_of(tmp_path, source) == []


def test_exports_and_imports_of_one_file_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "main.go"
    file.write_text("package main\n//go:wasmexport f\nfunc f() { g() }\n//go:wasmimport env f\nfunc g()\n")
    found = read_signatures([file])
    assert [(s.name, s.function) for s in found.exports] == [("f", "f")]
    assert [(s.module, s.name, s.function) for s in found.imports] == [("env", "f", "g")]


ADD = Signature(
    name="add",
    go="func add(a, b int32) int32",
    function="add",
    package="main",
    doc="",
    params=(Parameter("a", "int32"), Parameter("b", "int32")),
    result="int32",
    position="main.go:12",
)


def test_as_text() -> None:
    assert str(ADD) == "add(a: int32, b: int32) -> int32"


def test_json_round_trip() -> None:
    for signature in (ADD, Signature("stop", "func stop()", "stop", "main", "Ends it.\n", (), None, "main.go:3")):
        assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


def test_unknown_keys_are_ignored() -> None:
    assert Signature.from_json({**ADD.to_json(), "since": "2.0"}) == ADD


@pytest.mark.parametrize("key", ["name", "go", "function", "package", "doc", "params", "result", "position"])
def test_missing_key(key: str) -> None:
    value = ADD.to_json()
    del value[key]
    with pytest.raises(ValueError, match=key):
        Signature.from_json(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 1}, "'name' must be a string, not int"),
        ({"name": ""}, "'name'"),
        ({"name": "a b"}, "'name'"),
        ({"name": "a\n"}, "'name'"),
        ({"go": None}, "'go' must be a string, not NoneType"),
        ({"function": "a-b"}, "'function' must be a Go identifier, not 'a-b'"),
        ({"function": "f\n"}, "'function'"),
        ({"package": "1p"}, "'package'"),
        ({"doc": ["x"]}, "'doc'"),
        ({"doc": "\ud800"}, "'doc' must be valid Unicode"),
        ({"params": {}}, "'params' must be a list, not dict"),
        ({"params": ["a"]}, "a parameter must be a JSON object, not str"),
        ({"params": [{"name": "a"}]}, "'type' is missing"),
        ({"params": [{"name": "a=b", "type": "int32"}]}, "'name' must be a Go identifier"),
        ({"params": [{"name": "a", "type": "int"}]}, "'type' must be one of .*, not 'int'"),
        ({"params": [{"name": "a", "type": []}]}, "'type' must be a string, not list"),
        ({"result": "void"}, "'result' must be one of"),
        ({"result": False}, "'result' must be a string, not bool"),
        ({"position": 12}, "'position'"),
    ],
)
def test_malformed_signature(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Signature.from_json({**ADD.to_json(), **changes})
    with pytest.raises(ValueError, match=message):
        ImportSignature.from_json({**ADD.to_json(), "module": "env", **changes})


def test_an_import_round_trip_and_its_module_is_checked() -> None:
    fields = {**ADD.to_json(), "module": "env"}
    assert ImportSignature.from_json(json.loads(json.dumps(fields))).to_json() == fields
    for module in ("", "a b", 3, None):
        with pytest.raises(ValueError, match="'module' must be a"):
            ImportSignature.from_json({**fields, "module": module})


@pytest.mark.parametrize("value", [None, [], "add", 1])
def test_not_an_object(value: object) -> None:
    with pytest.raises(ValueError, match="a signature must be a JSON object"):
        Signature.from_json(value)


#: Folders of Go's standard library with many kinds of declarations.
PACKAGES = ("cmp", "context", "encoding/json", "go/ast", "io", "iter", "maps", "net/http", "reflect", "runtime",
            "sort", "strconv", "sync/atomic",
            "syscall", "text/template", "unicode")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that does the same with Go's own parser."""
    program = tmp_path_factory.mktemp("reference") / "signatures"
    env = {name: value for name, value in os.environ.items()
           if name not in ("GOOS", "GOARCH", "GOEXPERIMENT", "GOFLAGS")}
    subprocess.run([find_go().go, "build", "-C", Path(__file__).parent / "signatures_go", "-buildvcs=false", "-o",
                    program, "."],
                   env=env | {"GOENV": "off", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}, check=True)
    return program


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_is_read_as_by_gos_own_parser(package: str, reference: Path, tmp_path: Path) -> None:
    """All functions of the standard library are made exports, and those without a body also imports."""
    files = []
    for file in sorted((find_go().goroot / "src" / package).glob("*.go")):
        files.append(tmp_path / file.name)
        files[-1].write_text(re.sub(r"^func (\w+)(\(.*(\{)?)", r"//go:wasmexport \1\n//go:wasmimport m \1\nfunc \1\2",
                                    file.read_text(), flags=re.MULTILINE))
        # A copy with imports only.
        files.append(tmp_path / f"imports_{file.name}")
        files[-1].write_text(files[-2].read_text().replace("//go:wasmexport ", "//go:other "))
    expected = json.loads(subprocess.run([reference, *files], check=True, capture_output=True).stdout)
    found = read_signatures(files)
    assert [signature.to_json() for signature in found.exports] == expected["exports"]
    assert [signature.to_json() for signature in found.imports] == expected["imports"]
    assert found.exports


def test_a_comment_that_was_meant_as_a_directive_is_a_warning_with_a_path_that_an_editor_finds(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cmd" / "f0.go"
    file.parent.mkdir()
    file.write_text("""package main

// go:wasmexport add
func add() {}

//export sub
//
// sub is documented.
func sub() {}

// To export a function, write this before it:
//
//	//go:wasmexport name
func mul() {}

// go:wasmexport nothing
var x int

func main() {}
""")
    monkeypatch.chdir(tmp_path)
    found = read_signatures([file])
    assert found.exports == ()
    assert [warning.partition(",")[0] for warning in found.warnings] == [
        "cmd/f0.go:3: // go:wasmexport add is a comment for Go", "cmd/f0.go:6: //export sub is a comment for Go"]
    monkeypatch.chdir(file.parent)
    assert read_signatures([file]).warnings[0].startswith("./f0.go:3: ")


@pytest.mark.parametrize(("comment", "declared", "meant"), [
    ("// gothreads:export", "func", "//gothreads:export"), ("//gothreads:exprot name", "func", "//gothreads:export"),
    ("//gothread:export", "func", "//gothreads:export"), ("//gothreads: export", "func", "//gothreads:export"),
    ("//go:gothreads:export", "func", "//gothreads:export"), ("//GoThreads:Export", "func", "//gothreads:export"),
    ("//go:wasmexprot add", "func", "//go:wasmexport"), ("// go:wasmimport env now", "func", "//go:wasmimport"),
    ("//go:wasm_export add", "func", "//go:wasmexport"), ("//gothreads:improt x", "var", "//gothreads:import"),
    ("// gothreads:import", "var", "//gothreads:import"),
    ("//gothreads:export", "func", ""), ("//gothreads:export name", "func", ""), ("//gothreads:import", "var", ""),
    ("// gothreads:export is a directive", "func", ""), ("// //gothreads:export", "func", ""),
    ("//go:wasmexport add", "func", ""), ("//go:noinline", "func", ""), ("//go:linkname a b", "func", ""),
    ("//go:linkname a b", "var", ""), ("// goroutines: all", "func", ""), ("// gothreads:export", "type", "")])
def test_a_misspelt_directive_is_found(comment: str, declared: str, meant: str) -> None:
    for above, below in (("", ""), ("// F is documented.\n//\n", ""), ("", "//\n// More.\n")):
        text = f"package p\n\n{above}{comment}\n{below}{declared} F"
        place = text[:text.index(comment)].count("\n") + 1
        assert list(meant_as_directives(text.encode())) == ([(place, comment, meant)] if meant else [])
    assert list(meant_as_directives(f"package p\n\n{comment}\n\n{declared} F".encode())) == []
