"""//gothreads:export at build time: which functions can be exported, and what is said of the others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gothreads.build.linking import link
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.build.typed import GoPackage, generate
from gothreads.errors import CompileError
from gothreads.files import cache_folder
from gothreads.typed.schema import read_schema
from tests.support.modules import written


def program(folder: Path, source: str) -> Path:
    return written(folder / "program", "package main\n\n" + source + "\n\nfunc main() {}\n")


def refused(folder: Path, source: str) -> list[str]:
    """What the build says of the functions of a program that cannot be exported."""
    at = program(folder, source)
    with pytest.raises(CompileError, match="a function cannot be exported") as error:
        link(Request(str(at)))
    return [line.removeprefix(f"{at}/") for line in error.value.output.splitlines()]


@pytest.mark.parametrize(("declared", "why"), [
    ("func F(c chan int) {}", "F cannot be exported: its parameter c is chan int: an iterator or a channel can only be a "
                              "result"),
    ("func F() (s iter.Seq[int], n int) { return }", "F cannot be exported: its result is iter.Seq[int]: an iterator can "
                                                     "only be the one result, besides an error"),
    ("func F() (c chan<- int) { return }", "F cannot be exported: its result is chan<- int: a channel can only be a "
                                           "result, from which Python receives"),
    ("func F() func() { return nil }", "F cannot be exported: its result is func(): a func can only be a parameter of an "
                                       "exported function, for a callable of Python's"),
    ("func F(fs ...func()) {}", "F cannot be exported: its parameter fs[] is func(): a func can only be a parameter of an "
                                "exported function, for a callable of Python's"),
    ("func F(f func(int, chan int)) {}", "F cannot be exported: its parameter f: its parameter 2 is chan int: an iterator or "
                                         "a channel can only be a result"),
    ("func F(f func() io.Reader) {}", "F cannot be exported: its parameter f: its result 1 is io.Reader: a file object can "
                                      "only be a parameter of an exported function"),
    ("func F(p unsafe.Pointer) {}", "F cannot be exported: its parameter p is unsafe.Pointer: an address means nothing in "
                                    "Python"),
    ("type T struct{ A []map[string]uintptr }\n\n//gothreads:export\nfunc F(t T) {}",
     "F cannot be exported: its parameter t.A[][] is uintptr: an address means nothing in Python"),
    ("func F(r interface{ Read() }) {}", "F cannot be exported: its parameter r is interface{Read()}: of interfaces, only "
                                         "`any` has a value in Python; use the type that is in it, or io.Reader or "
                                         "io.Writer for a file object"),
    ("func F(s iter.Seq[int]) {}", "F cannot be exported: its parameter s is iter.Seq[int]: an iterator or a channel can only "
                                   "be a result"),
    ("func F(err error) {}", "F cannot be exported: its parameter err is error: an error can only be the last result"),
    ("func F(s struct{ A int }) {}", "F cannot be exported: its parameter s is struct{A int}: a struct needs a name, for "
                                     "its class in Python"),
    ("func F(p **int) {}", "F cannot be exported: its parameter p is **int: None would be ambiguous"),
    ("func F(m map[[2]int]int) {}", "F cannot be exported: its parameter m is map[[2]int]int: its keys must be numbers, "
                                    "strings or bools"),
    ("func F[T any](t T) {}", "F cannot be exported: it is generic. Export a function that calls it with its types"),
    ("func F(n int, c context.Context) {}", "F cannot be exported: its context must be the first parameter"),
    ("func (t *T) F() {}\n\ntype T struct{}", "F cannot be exported: its receiver is a pointer, and Python would call it "
                                              "on a copy. Use a value, or a function that returns what it has changed"),
    ("func Del() {}", "Del cannot be exported as \"del\": that is no name in Python. Write another one: "
                      "//gothreads:export NAME"),
])
def test_the_build_says_where_and_why_a_function_cannot_be_exported(tmp_path: Path, declared: str, why: str) -> None:
    imports = [name for name in ("context", "io", "iter", "unsafe") if f"{name}." in declared]
    head = "".join(f'import "{name}"\n\n' for name in imports)
    directive = "" if "//gothreads:export" in declared else "//gothreads:export\n"
    lines = refused(tmp_path, head + directive + declared)
    assert len(lines) == 1
    place, _, said = lines[0].partition(": ")
    assert said == why
    assert (tmp_path / "program" / "main.go").read_text().splitlines()[int(place.split(":")[1]) - 1].startswith("func")


def test_each_variable_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    at = program(tmp_path, """//gothreads:import
var number int

//gothreads:import
var value any

//gothreads:import
var takes func(int, chan int)

//gothreads:import
var object interface{ A(); B() chan int }

//gothreads:import
var twice interface{ A(); a() }

//gothreads:import
var a, b func()

//gothreads:import
var _ func()

//gothreads:import
func f() {}

//gothreads:import class
var keyword func()

//gothreads:import same
var first func()

var (
	//gothreads:import same
	second func()
)""")
    with pytest.raises(CompileError, match="a variable cannot be imported") as error:
        link(Request(str(at)))
    only = "only a func, or an interface with methods"
    assert [line.removeprefix(f"{at}/") for line in error.value.output.splitlines()] == [
        f"main.go:4:5: number cannot be imported: it is int: {only}",
        f"main.go:7:5: value cannot be imported: it is any: {only}",
        "main.go:10:5: takes cannot be imported: its parameter 2 is chan int: an iterator or a channel can only be a result",
        "main.go:13:5: object cannot be imported: its method B: its result 1 is chan int: an iterator or a channel can only "
        "be a result",
        "main.go:16:5: twice cannot be imported: its methods A and a are both a in Python",
        "main.go:19:5: //gothreads:import must be above one variable, which is not named _",
        "main.go:22:5: //gothreads:import must be above one variable, which is not named _",
        "main.go:24:1: //gothreads:import must be directly above a variable of the package, as a part of its comment",
        'main.go:28:5: keyword cannot be imported as "class": that is no name in Python. Write another one: '
        "//gothreads:import NAME",
        "main.go:35:2: second cannot be imported as same: main.go:31 imports that name. Write another one: "
        "//gothreads:import NAME"]


def test_each_function_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    lines = refused(tmp_path, """
//gothreads:export
func Twice(a int) int { return a }

// A comment of its own.

//gothreads:export

var x int

//gothreads:export twice
func Other(c chan int) {}
""")
    assert lines == [
        "main.go:9:1: //gothreads:export must be directly above a function, as a part of its comment",
        "main.go:14:6: Other cannot be exported as twice: main.go:5 exports that name. Write another one: "
        "//gothreads:export NAME",
        "main.go:14:6: Other cannot be exported: its parameter c is chan int: an iterator or a channel can only be a "
        "result"]


def test_each_field_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    """Also in a struct that other functions use, where a description of it would fail."""
    lines = refused(tmp_path, """import "context"

type Ctx = context.Context

type Base struct{ C chan int }

type T struct {
	Base
	F func(int)
	Rows [][]<-chan int
	ByName map[string]chan<- int
	Two [2]unsafe
	Pointer *chan int
	Number complex64
	Keys map[complex64]int
	Deep *Deep
}

type unsafe uintptr

type Deep struct{ More []Deep; Err error }

//gothreads:export
func F(ctx Ctx, t T) (*T, T) { return nil, t }

type List []List

//gothreads:export
func G(l List, m map[string]Node, n Node) {}

type Node map[string]*Node

//gothreads:export
func H(c chan int) {}
""")
    only = "an iterator or a channel can only be a result"
    fields = [
        f".C is chan int: {only}", ".F is func(int): a func can only be a parameter of an exported function, for a "
        "callable of Python's", f".Rows[][] is <-chan int: {only}", ".ByName[] is chan<- int: a channel can only be a "
        "result, from which Python receives", ".Two[] is main.unsafe: an address means nothing in Python",
        f".Pointer is chan int: {only}", ".Deep.Err is error: an error can only be the last result"]
    itself = "it consists of itself; only structs can contain themselves"
    assert lines == [*(f"main.go:26:6: F cannot be exported: {what}{field}" for what in ("its parameter t", "its result")
                       for field in fields),
                     f"main.go:31:6: G cannot be exported: its parameter l is main.List: {itself}",
                     f"main.go:31:6: G cannot be exported: its parameter m[] is main.Node: {itself}",
                     f"main.go:31:6: G cannot be exported: its parameter n is main.Node: {itself}",
                     f"main.go:36:6: H cannot be exported: its parameter c is chan int: {only}"]


def test_types_that_generated_code_cannot_name_are_refused(tmp_path: Path) -> None:
    at = program(tmp_path, """import "example.org/m/lib"

//gothreads:export
func F(a lib.Named, b lib.Inner, c lib.Fine) {}""")
    (at / "go.mod").write_text("module example.org/m\n\ngo 1.24\n")
    for path, text in {"lib/lib.go": """package lib

import "example.org/m/lib/internal/in"

type hidden = int
type secret struct{}
type box[T any] struct{ N T }
type Box[T any] struct{ N int }
type Named struct{ A Box[secret] }
type Inner struct{ A in.T }
type Fine struct{ A []hidden; B map[string][]hidden; C hidden }
""", "lib/internal/in/in.go": "package in\n\ntype T struct{}\n"}.items():
        (at / path).parent.mkdir(parents=True, exist_ok=True)
        (at / path).write_text(text)
    with pytest.raises(CompileError, match="a function cannot be exported") as error:
        link(Request(str(at)))
    assert [line.partition("its parameter ")[2] for line in error.value.output.splitlines()] == [
        "a.A is lib.Box[lib.secret]: a type of another package that is not exported",
        "b.A is in.T: a type of an internal package, which this package may not import"]
    (at / "main.go").write_text((at / "main.go").read_text().replace("a lib.Named, b lib.Inner, ", ""))
    link(Request(str(at)))


def test_a_field_that_go_does_not_find_is_refused(tmp_path: Path) -> None:
    lines = refused(tmp_path, """type A struct{ X int `json:"a"` }

type B struct{ X int `json:"b"` }

type Both struct{ A; B }

type Method struct{ A }

func (Method) X() {}

//gothreads:export
func F(b Both, m Method) {}""")
    assert [line.partition(" is ")[2].partition(",")[0] for line in lines] == [
        "main.Both: Go does not find its field X", "main.Method: Go does not find its field X"]


def test_names_that_calls_have_get_an_underscore(tmp_path: Path) -> None:
    at = program(tmp_path, """type code uintptr

type Code uintptr

func (c Code) Error() string { return "" }

type S struct{}

type A = S

type _t struct{ N int }

//gothreads:export
func F(timeout, on_timeout, _x int, class _t) error { return Code(1) }

//gothreads:export
func (a A) Twice() {}""")
    schema = link(Request(str(at))).schema
    assert schema is not None
    read = read_schema(schema)
    assert [[param.name for param in function.params] for function in read.functions] == [
        ["timeout_", "on_timeout_", "arg2_", "class_"], ["a"]]
    assert [each.name for each in read.classes] == ["T", "S"]


def test_two_fields_of_one_name_need_a_tag(tmp_path: Path) -> None:
    lines = refused(tmp_path, "type T struct{ A, B int; C int `json:\"b\"` }\n\n//gothreads:export\nfunc F(t T) {}")
    assert lines == ["main.go:6:6: F cannot be exported: its parameter t is main.T: its fields B and C are both b in Python."
                     " Name one with a tag: `json:\"name\"`"]


def test_up_to_a_hundred_functions_are_named_that_cannot_be_exported(tmp_path: Path) -> None:
    lines = refused(tmp_path, "".join(f"//gothreads:export\nfunc F{n}(c chan int) {{}}\n\n" for n in range(103)))
    assert len(lines) == 101
    assert lines[99].startswith("main.go:301:6: F99 cannot be exported: its parameter c is chan int: ")
    assert lines[100] == "and 3 more"


@pytest.mark.parametrize("source", [
    "//gothreads:export\nfunc F() int { return nothing }",
    "//gothreads:export\nfunc F(a, b int) {\n" + "".join(f"\tx{n} := none{n}\n" for n in range(12)) + "}",
    "//gothreads:export\nfunc F() {\n\tx := 1\n\ty :=\n}\n\nfunc G( {}\n",
    'import "program/lib"\n\n//gothreads:export\nfunc F() { lib.G() }'])
def test_the_programs_own_errors_are_those_of_go_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       source: str) -> None:
    at = program(tmp_path, source)
    (at / "lib").mkdir()
    (at / "lib" / "lib.go").write_text("package lib\n\nfunc G() {\n\tvar a int = b\n\treturn c\n}\n")
    monkeypatch.chdir(at)
    native = subprocess.run([find_go().go, "build", "."], cwd=at, capture_output=True, text=True)
    assert native.returncode
    with pytest.raises(CompileError) as error:
        link(Request("."))
    assert error.value.output == native.stderr


def test_a_program_without_the_comment_needs_no_generator(tmp_path: Path) -> None:
    file = tmp_path / "main.go"
    file.write_text("package main\n\n// //gothreads:export\n// is a comment\nfunc main() { _ = `\n //gothreads:export` }\n")
    package = GoPackage("main", "main", tmp_path, (file,), ("fmt",), {})

    def export_data(packages: object) -> dict[str, str]:
        raise AssertionError(packages)
    found = generate("x", [package], find_go(), cache_folder(), work=tmp_path, export_data=export_data)
    assert (found.files, found.schema) == ({}, None)
