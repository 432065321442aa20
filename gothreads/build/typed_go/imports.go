package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
)

// importDirective is the comment that has Python implement a variable. A name in Python may follow it.
const importDirective = "//gothreads:import"

// An imported variable is of an interface or a func, which Python implements.
type imported struct {
	name    string // in Python
	object  *types.Var
	doc     *ast.CommentGroup
	methods []method
}

// A method is one that Python implements. Of a func there is one, without a name.
type method struct {
	name, go_ string
	signature *types.Signature
	call      *callable
}

// findImports finds the variables that Python implements, in the declarations of a file. belongs: the directives that
// are where they should be.
func (g *generator) findImports(s *source, file *ast.File, belongs map[*ast.Comment]bool) {
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			spec := spec.(*ast.ValueSpec)
			docs := []*ast.CommentGroup{spec.Doc}
			if !group.Lparen.IsValid() {
				docs = append(docs, group.Doc)
			}
			for _, doc := range docs {
				if doc == nil {
					continue
				}
				for _, comment := range doc.List {
					if name, found := directiveOf(comment.Text, importDirective); found {
						belongs[comment] = true
						g.imports(s, spec, doc, name)
					}
				}
			}
		}
	}
}

func (g *generator) imports(s *source, spec *ast.ValueSpec, doc *ast.CommentGroup, name string) {
	at := spec.Names[0].Pos()
	object, ok := s.info.Defs[spec.Names[0]].(*types.Var)
	if !ok || len(spec.Names) != 1 || object.Name() == "_" {
		g.fail(at, "%s must be above one variable, which is not named _", importDirective)
		return
	}
	v := &imported{name: name, object: object, doc: doc}
	if v.name == "" {
		v.name = python(snake(object.Name()))
	}
	what := object.Name() + " cannot be imported"
	if !pythonName.MatchString(v.name) || keywords[v.name] {
		g.fail(at, "%s as %q: that is no name in Python. Write another one: %s NAME", what, v.name, importDirective)
	} else if before, taken := g.importNames[v.name]; taken {
		g.fail(at, "%s as %s: %s:%d imports that name. Write another one: %s NAME", what, v.name,
			filepath.Base(before.Filename), before.Line, importDirective)
	}
	g.importNames[v.name] = g.fset.Position(at)
	failed := len(g.errors)
	switch u := object.Type().Underlying().(type) {
	case *types.Signature:
		v.methods = []method{{signature: u, call: callableOf(u)}}
	case *types.Interface:
		v.methods = g.methods(s, u, what, at)
	}
	if v.methods == nil && len(g.errors) == failed {
		g.fail(at, "%s: it is %s: only a func, or an interface with methods", what, types.TypeString(object.Type(), short))
	}
	for _, m := range v.methods {
		of := what
		if m.name != "" {
			of += ": its method " + m.go_
		}
		g.visitCallable(s, m.call, of, at)
	}
	if len(g.errors) == failed {
		s.imported = append(s.imported, v)
		g.allImports = append(g.allImports, v)
	}
}

func (g *generator) methods(s *source, u *types.Interface, what string, at token.Pos) []method {
	var found []method
	taken := map[string]string{}
	for m := range u.Methods() {
		name := python(snake(m.Name()))
		switch other := taken[name]; {
		case !m.Exported() && m.Pkg() != s.types:
			g.fail(at, "%s: its method %s is of another package that does not export it", what, m.Name())
		case !pythonName.MatchString(name):
			g.fail(at, "%s: its method %s has no name in Python", what, m.Name())
		case other != "":
			g.fail(at, "%s: its methods %s and %s are both %s in Python", what, other, m.Name(), name)
		}
		taken[name] = m.Name()
		found = append(found, method{name, m.Name(), m.Signature(), callableOf(m.Signature())})
	}
	return found
}

// panics reports whether an import has no error to return. Then every exported function may panic.
func (g *generator) panics() bool {
	for _, v := range g.allImports {
		for _, m := range v.methods {
			if !m.call.fails {
				return true
			}
		}
	}
	return false
}

// setImports writes what sets a package's variables. It is done when they are initialised, so before init functions run.
func (e *emitter) setImports() {
	if len(e.s.imported) == 0 {
		return
	}
	background := e.imported("context") + ".Background()"
	e.printf("var _ = gothreads_imports()\n\nfunc gothreads_imports() bool {\n" +
		"gothreads_wire.CallHost = gothreads_guest.CallContext\n")
	for i, v := range e.s.imported {
		if v.methods[0].name != "" {
			e.printf("%s = gothreads_import%d{}\n", v.object.Name(), i)
			continue
		}
		c := v.methods[0].call
		e.printf("%s = func%s {\no := gothreads_wire.Import(%q)\n", v.object.Name(), e.head(c), v.name)
		e.body(c, "o", background)
		e.printf("}\n")
	}
	e.printf("return true\n}\n\n")
	for i, v := range e.s.imported {
		if v.methods[0].name == "" {
			continue
		}
		e.printf("type gothreads_import%d struct{}\n\n", i)
		for _, m := range v.methods {
			e.printf("func (gothreads_import%d) %s%s {\no := gothreads_wire.Import(%q)\n", i, m.go_, e.head(m.call),
				v.name+"."+m.name)
			e.body(m.call, "o", background)
			e.printf("}\n\n")
		}
	}
}

// An ImportSchema describes a variable that Python implements.
type ImportSchema struct {
	Name     string         `json:"name"`
	Go       string         `json:"go"` // the variable, and its type
	Package  string         `json:"package"`
	Doc      string         `json:"doc"`
	Position string         `json:"position"`
	Methods  []MethodSchema `json:"methods"` // of a func: one, without a name
}

// A MethodSchema describes what Python implements.
type MethodSchema struct {
	Name    string        `json:"name"`
	Go      string        `json:"go"`
	Params  []FieldSchema `json:"params"`
	Results []any         `json:"results"`
}

func (g *generator) importSchemas() []ImportSchema {
	found := []ImportSchema{}
	for _, v := range g.allImports {
		place := g.fset.Position(v.object.Pos())
		described := ImportSchema{
			Name: v.name, Go: fmt.Sprintf("var %s %s", v.object.Name(), types.TypeString(v.object.Type(), short)),
			Package: v.object.Pkg().Path(), Doc: v.doc.Text(),
			Position: fmt.Sprintf("%s:%d", filepath.Base(place.Filename), place.Line),
		}
		for _, m := range v.methods {
			text := types.TypeString(m.signature, short)
			if m.name != "" {
				text = m.go_ + text[len("func"):]
			}
			params, results := g.describeCallable(m.call)
			each := MethodSchema{Name: m.name, Go: text, Params: []FieldSchema{}, Results: results}
			from := m.signature.Params().Len() - len(params) // a context is none
			seen := map[string]bool{}
			for i, described := range params {
				p := m.signature.Params().At(from + i)
				name := python(snake(orElse(p.Name(), fmt.Sprintf("arg%d", i))))
				if seen[name] || !pythonName.MatchString(name) {
					name = fmt.Sprintf("arg%d_", i)
				}
				seen[name] = true
				each.Params = append(each.Params, FieldSchema{name, types.TypeString(p.Type(), short), described, ""})
			}
			described.Methods = append(described.Methods, each)
		}
		found = append(found, described)
	}
	return found
}
