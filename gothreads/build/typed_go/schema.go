package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
)

// A Schema describes the functions to Python. typed/schema.py reads it.
type Schema struct {
	Functions []FunctionSchema `json:"functions"`
	Classes   []ClassSchema    `json:"classes"`
	Errors    []ErrorSchema    `json:"errors"`
	Imports   []ImportSchema   `json:"imports"`
}

type FunctionSchema struct {
	Name     string        `json:"name"`
	Go       string        `json:"go"` // the declaration
	Package  string        `json:"package"`
	Doc      string        `json:"doc"`
	Position string        `json:"position"`
	Params   []FieldSchema `json:"params"`
	Results  []any         `json:"results"`
	Variadic bool          `json:"variadic"`
	Context  bool          `json:"context"`
	Fails    bool          `json:"fails"`
}

type FieldSchema struct {
	Name string `json:"name"`
	Go   string `json:"go"`
	Type any    `json:"type"`
	Doc  string `json:"doc"`
}

type ClassSchema struct {
	Name    string         `json:"name"`
	Go      string         `json:"go"`
	Doc     string         `json:"doc"`
	Tag     uint32         `json:"tag"`
	Fields  []FieldSchema  `json:"fields"`
	Members []MemberSchema `json:"members"`
}

type MemberSchema struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

type ErrorSchema struct {
	Name   string        `json:"name"`
	Go     string        `json:"go"`
	Doc    string        `json:"doc"`
	Fields []FieldSchema `json:"fields"`
	Value  any           `json:"value"` // the type of its attribute `value`
}

func (g *generator) schema() Schema {
	s := Schema{[]FunctionSchema{}, []ClassSchema{}, []ErrorSchema{}, g.importSchemas()}
	for _, f := range g.all {
		place := g.fset.Position(f.declared.Pos())
		described := FunctionSchema{
			Name: f.name, Go: g.text(f), Package: f.object.Pkg().Path(), Doc: f.declared.Doc.Text(),
			Position: fmt.Sprintf("%s:%d", filepath.Base(place.Filename), place.Line),
			Params:   []FieldSchema{}, Results: []any{}, Variadic: f.signature.Variadic(), Context: f.context, Fails: f.fails,
		}
		for _, p := range f.params {
			var crosses any
			if p.lent != nil {
				crosses = g.describeLent(p.lent)
			} else {
				crosses = g.describe(p.typ)
			}
			described.Params = append(described.Params, FieldSchema{p.name, types.TypeString(p.typ, short), crosses, ""})
		}
		if f.stream != nil {
			item := g.describe(f.stream.items[0])
			if len(f.stream.items) == 2 {
				item = []any{"tuple", item, g.describe(f.stream.items[1])}
			}
			described.Results = append(described.Results, []any{"stream", item})
			s.Functions = append(s.Functions, described)
			continue
		}
		for _, result := range f.results {
			described.Results = append(described.Results, g.describe(result))
		}
		s.Functions = append(s.Functions, described)
	}
	for _, c := range g.order {
		described := ClassSchema{
			Name: c.name, Go: typeName(c.named), Doc: g.doc(c.named.Obj()).text, Tag: c.tag, Fields: []FieldSchema{},
			Members: []MemberSchema{},
		}
		described.Fields = g.fieldSchemas(c.fields)
		for _, m := range c.members {
			var value any
			if m.value.Kind() == constant.String {
				value = constant.StringVal(m.value)
			} else if n, ok := constant.Int64Val(m.value); ok {
				value = n
			} else {
				value, _ = constant.Uint64Val(m.value)
			}
			described.Members = append(described.Members, MemberSchema{m.name, value})
		}
		s.Classes = append(s.Classes, described)
	}
	for _, kind := range g.kinds {
		described := ErrorSchema{Name: kind.name, Go: kind.object.Pkg().Path() + "." + kind.name, Doc: g.doc(kind.object).text,
			Fields: g.fieldSchemas(kind.fields)}
		if kind.value != nil {
			described.Value = g.describe(kind.value)
		}
		s.Errors = append(s.Errors, described)
	}
	return s
}

func (g *generator) fieldSchemas(fields []field) []FieldSchema {
	found := []FieldSchema{}
	for _, f := range fields {
		doc := g.docs[f.owner[:strings.LastIndexByte(f.owner, '.')+1]].field(f.owner, f.go_)
		found = append(found, FieldSchema{f.name, types.TypeString(f.typ, short), g.describe(f.typ), doc})
	}
	return found
}

// describe returns what Python needs to know of a type: a list of its shape, and what that needs.
func (g *generator) describe(t types.Type) any {
	t = types.Unalias(t)
	switch g.shape(t) {
	case shapeEnum, shapeStruct:
		return []any{"class", g.class(t.(*types.Named)).name}
	case shapeTime:
		return []any{"time"}
	case shapeDuration:
		return []any{"duration"}
	case shapeText:
		return []any{"text", typeName(t)}
	case shapeAny:
		return []any{"any"}
	case shapeBytes:
		return []any{"bytes"}
	case shapeNumbers:
		return []any{"numbers", basicName(t.Underlying().(*types.Slice).Elem())}
	case shapeList:
		return []any{"list", g.describe(t.Underlying().(*types.Slice).Elem())}
	case shapeArray:
		a := t.Underlying().(*types.Array)
		switch {
		case isByte(a.Elem()):
			return []any{"bytes", a.Len()}
		case g.isNumber(a.Elem()):
			return []any{"numbers", basicName(a.Elem()), a.Len()}
		}
		return []any{"list", g.describe(a.Elem()), a.Len()}
	case shapeSet:
		return []any{"set", g.describe(t.Underlying().(*types.Map).Key())}
	case shapeDict:
		m := t.Underlying().(*types.Map)
		return []any{"dict", g.describe(m.Key()), g.describe(m.Elem())}
	case shapePointer:
		return []any{"pointer", g.describe(t.Underlying().(*types.Pointer).Elem())}
	}
	return []any{basicName(t)}
}

// basicName returns the name of a basic type; its size is part of it.
func basicName(t types.Type) string {
	switch name := types.Typ[t.Underlying().(*types.Basic).Kind()].Name(); name {
	case "int", "uint":
		return name + "64"
	default:
		return name
	}
}

// docs are the comments of a package's types and variables, and of the fields of its structs.
type packageDocs struct {
	objects map[string]docs
}

type docs struct {
	text   string
	fields map[string]string
}

func (p *packageDocs) field(owner, name string) string {
	if p == nil {
		return ""
	}
	return p.objects[owner[strings.LastIndexByte(owner, '.')+1:]].fields[name]
}

// doc returns the comments of an object, if its package is one of the program's.
func (g *generator) doc(object types.Object) docs {
	if object.Pkg() == nil {
		return docs{}
	}
	path := object.Pkg().Path()
	found := g.docs[path+"."]
	if found == nil {
		found = &packageDocs{map[string]docs{}}
		g.docs[path+"."] = found
		for _, p := range g.request.Packages {
			if p.Path == path {
				found.read(p)
			}
		}
	}
	return found.objects[object.Name()]
}

func (p *packageDocs) read(from Package) {
	fset := token.NewFileSet()
	for _, name := range from.Files {
		file, err := parser.ParseFile(fset, filepath.Join(from.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		for _, declaration := range file.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					p.objects[spec.Name.Name] = docs{comment(spec.Doc, group.Doc, spec.Comment), fieldDocs(spec.Type)}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						own := group.Doc
						if len(group.Specs) > 1 {
							own = nil
						}
						p.objects[name.Name] = docs{text: comment(spec.Doc, own, spec.Comment)}
					}
				}
			}
		}
	}
}

func fieldDocs(t ast.Expr) map[string]string {
	s, ok := t.(*ast.StructType)
	if !ok {
		return nil
	}
	found := map[string]string{}
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			found[name.Name] = comment(f.Doc, f.Comment)
		}
	}
	return found
}

func comment(groups ...*ast.CommentGroup) string {
	for _, group := range groups {
		if text := group.Text(); text != "" {
			return text
		}
	}
	return ""
}
