// The generator of typed functions: it finds the functions that //gothreads:export exports, and the variables that
// //gothreads:import imports, and writes the Go code that reads and writes arguments and results, and a description of
// them for Python.
//
// It reads a request as JSON from standard input, and writes a response to standard output. build/typed.py runs it, and
// the module that it describes has the reasons for the encoding (build/goroot/gothreads/guest/wire).
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// A Request is what to generate code for.
type Request struct {
	Packages []Package         // all packages of the program outside the standard library
	Exports  map[string]string // import path -> the compiler's export data
}

// A Package is a package of the program.
type Package struct {
	Path, Name, Dir string
	Files           []string
	ImportMap       map[string]string
	Typed           bool // a file has the comment
}

// A Response is what was generated.
type Response struct {
	Errors []string          // what cannot be exported: one line each, with the position
	Broken []string          // the first error of each package that is no correct Go
	Files  map[string]string // path -> Go source
	Schema Schema
}

// directive is the comment that exports a function. A name in Python may follow it.
const directive = "//gothreads:export"

// fileName is the name of the generated files.
const fileName = "zz_gothreads_export.go"

func main() {
	var request Request
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(generate(request)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(request Request) Response {
	g := newGenerator(request)
	response := Response{Files: map[string]string{}}
	var checked []*source
	for _, p := range request.Packages {
		if !p.Typed {
			continue
		}
		s, err := g.check(p)
		if err != nil {
			response.Broken = append(response.Broken, err.Error())
			continue
		}
		checked = append(checked, s)
	}
	if response.Broken != nil {
		return response
	}
	for _, s := range checked {
		g.find(s)
	}
	sort.SliceStable(g.errors, func(i, j int) bool {
		a, b := g.errors[i].at, g.errors[j].at
		return a.Filename < b.Filename || a.Filename == b.Filename && a.Offset < b.Offset
	})
	said := map[string]bool{} // a struct may be in several places
	for _, e := range g.errors {
		if line := fmt.Sprintf("%s: %s", e.at, e.why); !said[line] {
			said[line] = true
			response.Errors = append(response.Errors, line)
		}
	}
	if response.Errors != nil { // what follows needs types that visit has let through
		return response
	}
	g.nameClasses()
	for _, s := range checked {
		if len(s.functions) > 0 || len(s.imported) > 0 {
			response.Files[filepath.Join(s.pkg.Dir, fileName)] = g.emit(s)
		}
	}
	response.Schema = g.schema()
	return response
}

// A source is a package that was read from its source.
type source struct {
	pkg       Package
	types     *types.Package
	info      *types.Info
	files     []*ast.File
	functions []*function
	imported  []*imported
	kinds     []errorKind
}

// A generator holds what was found so far.
type generator struct {
	request Request
	fset    *token.FileSet
	gc      types.ImporterFrom
	errors  []problem
	names   map[string]token.Position // the functions' names in Python
	classes map[string]*class         // by the type's name with its path
	order   []*class
	docs    map[string]*packageDocs
	all     []*function
	kinds   []errorKind
	visited map[string]bool

	importNames map[string]token.Position // in Python
	allImports  []*imported
}

func newGenerator(request Request) *generator {
	g := &generator{
		request: request, fset: token.NewFileSet(), names: map[string]token.Position{}, classes: map[string]*class{},
		docs: map[string]*packageDocs{}, visited: map[string]bool{}, importNames: map[string]token.Position{},
	}
	open := func(path string) (io.ReadCloser, error) {
		file := request.Exports[path]
		if file == "" {
			return nil, fmt.Errorf("package %s was not compiled", path)
		}
		return os.Open(file)
	}
	g.gc = importer.ForCompiler(g.fset, "gc", open).(types.ImporterFrom)
	return g
}

// mapped imports packages by the names that one package has for them.
type mapped struct {
	types.ImporterFrom
	names map[string]string
}

func (m mapped) Import(path string) (*types.Package, error) {
	if name := m.names[path]; name != "" {
		path = name
	}
	return m.ImporterFrom.Import(path)
}

func (m mapped) ImportFrom(path, dir string, mode types.ImportMode) (*types.Package, error) {
	if name := m.names[path]; name != "" {
		path = name
	}
	return m.ImporterFrom.ImportFrom(path, dir, mode)
}

func (g *generator) check(p Package) (*source, error) {
	s := &source{pkg: p, info: &types.Info{Defs: map[*ast.Ident]types.Object{}}}
	for _, name := range p.Files {
		file, err := parser.ParseFile(g.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, file)
	}
	config := types.Config{Importer: mapped{g.gc, p.ImportMap}, Sizes: types.SizesFor("gc", "wasm")}
	var err error
	s.types, err = config.Check(p.Path, g.fset, s.files, s.info)
	return s, err
}

func (g *generator) fail(at token.Pos, format string, args ...any) {
	g.errors = append(g.errors, problem{g.fset.Position(at), fmt.Sprintf(format, args...)})
}

// A problem is why something cannot be exported.
type problem struct {
	at  token.Position
	why string
}

// directiveOf reports whether a comment is a directive, and returns the name that follows it.
func directiveOf(text, directive string) (name string, found bool) {
	rest, found := strings.CutPrefix(text, directive)
	if !found || rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return "", false
	}
	return strings.TrimSpace(rest), true
}
