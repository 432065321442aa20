// Signatures prints, as JSON, the Go signatures of the functions that a program exports to its host or imports from
// its host.
//
//	signatures FILE.go...
//
// WebAssembly has four number types and no names. What a caller needs to know (that an i32 is a bool, the names of the
// parameters, what the function is for) is only in the source.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type parameter struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type signature struct {
	Module   string      `json:"module,omitempty"` // of the import
	Name     string      `json:"name"`             // of the export or import
	Go       string      `json:"go"`               // the declaration on one line, without its body
	Function string      `json:"function"`
	Package  string      `json:"package"`
	Doc      string      `json:"doc"`
	Params   []parameter `json:"params"`
	Result   *string     `json:"result"` // nil: the function returns nothing
	Position string      `json:"position"`
}

// A packageID tells packages apart. One folder may hold two: p and p_test.
type packageID struct{ dir, name string }

// typeDecls holds the types that a package declares, by name.
type typeDecls map[string]ast.Expr

func main() {
	fset := token.NewFileSet()
	var files []*ast.File
	packages := map[packageID]typeDecls{}
	for _, path := range os.Args[1:] {
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			continue // the compiler reports it, with better messages
		}
		files = append(files, file)
		id := packageOf(fset, file)
		if packages[id] == nil {
			packages[id] = typeDecls{}
		}
		packages[id].collect(file)
	}

	all := signatures{[]signature{}, []signature{}} // not nil slices, which would be null in JSON
	for _, file := range files {
		all.add(fset, file, packages[packageOf(fset, file)])
	}
	for _, list := range [][]signature{all.Exports, all.Imports} {
		slices.SortStableFunc(list, func(a, b signature) int { return cmp.Or(cmp.Compare(a.Module, b.Module), cmp.Compare(a.Name, b.Name)) })
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		log.Fatal(err)
	}
}

func packageOf(fset *token.FileSet, file *ast.File) packageID {
	return packageID{filepath.Dir(fset.File(file.Package).Name()), file.Name.Name}
}

type signatures struct {
	Exports []signature `json:"exports"`
	Imports []signature `json:"imports"`
}

// add adds the exported and imported functions of a file.
func (all *signatures) add(fset *token.FileSet, file *ast.File, decls typeDecls) {
	comments := file.Comments
	for _, decl := range file.Decls {
		// Like the compiler, accept directives anywhere between the previous declaration and this one: a blank line may
		// separate them from the function, and then they are not in the doc comment.
		var exported, imported []string
		for ; len(comments) > 0 && comments[0].Pos() < decl.End(); comments = comments[1:] {
			if comments[0].Pos() < decl.Pos() {
				exported = directive(comments[0], "//go:wasmexport ", 1, exported)
				imported = directive(comments[0], "//go:wasmimport ", 2, imported)
			}
		}
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil {
			continue
		}
		position := fset.PositionFor(fn.Pos(), false) // as in the file, whatever //line says
		found := signature{
			Go:       "func " + fn.Name.Name + strings.TrimPrefix(types.ExprString(fn.Type), "func"),
			Function: fn.Name.Name,
			Package:  file.Name.Name,
			Doc:      fn.Doc.Text(),
			Params:   decls.parameters(fn.Type.Params),
			Result:   decls.result(fn.Type.Results),
			Position: fmt.Sprintf("%s:%d", filepath.Base(position.Filename), position.Line),
		}
		switch {
		case exported != nil:
			found.Name = exported[0]
			all.Exports = append(all.Exports, found)
		case imported != nil && fn.Body == nil:
			found.Module, found.Name = imported[0], imported[1]
			all.Imports = append(all.Imports, found)
		}
	}
}

// directive returns the words after the last directive with that prefix in a comment, or known if there is none.
func directive(group *ast.CommentGroup, prefix string, count int, known []string) []string {
	for _, comment := range group.List {
		text, ok := strings.CutPrefix(comment.Text, prefix)
		if words := strings.Fields(text); ok && len(words) == count { // the compiler rejects other counts
			known = words
		}
	}
	return known
}

// collect adds the types that a file declares.
func (decls typeDecls) collect(file *ast.File) {
	for _, decl := range file.Decls {
		if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.TYPE {
			for _, spec := range group.Specs {
				decl := spec.(*ast.TypeSpec)
				decls[decl.Name.Name] = decl.Type
			}
		}
	}
}

func (decls typeDecls) parameters(fields *ast.FieldList) []parameter {
	list := []parameter{}
	for _, field := range fields.List {
		// A field without names is one parameter.
		for i := range max(1, len(field.Names)) {
			name := fmt.Sprintf("arg%d", len(list))
			if len(field.Names) > 0 && field.Names[i].Name != "_" {
				name = field.Names[i].Name
			}
			list = append(list, parameter{name, decls.resolve(field.Type)})
		}
	}
	return list
}

func (decls typeDecls) result(fields *ast.FieldList) *string {
	if fields.NumFields() == 0 {
		return nil
	}
	result := decls.resolve(fields.List[0].Type) // Go exports and imports no functions with more results
	return &result
}

// resolve follows names to the type that decides how a value crosses to the host. It returns "?" if that is unknown.
func (decls typeDecls) resolve(expr ast.Expr) string {
	for range len(decls) + 1 { // a longer chain of names is a cycle: type A B; type B A
		expr = ast.Unparen(expr)
		if _, ok := expr.(*ast.StarExpr); ok {
			return "pointer"
		}
		name := types.ExprString(expr)
		declared, ok := decls[name] // looked up first: a package may redeclare even int32
		if !ok {
			return predeclared(name)
		}
		expr = declared
	}
	return "?"
}

func predeclared(name string) string {
	switch name {
	case "bool", "int32", "uint32", "int64", "uint64", "float32", "float64", "uintptr", "unsafe.Pointer", "string":
		return name
	case "rune":
		return "int32"
	}
	return "?" // a type of another package, or one that cannot cross
}
