package main

import (
	"bytes"
	"go/ast"
	"go/printer"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A function is one that is exported.
type function struct {
	name      string // in Python
	object    *types.Func
	declared  *ast.FuncDecl
	signature *types.Signature
	context   bool
	fails     bool // the last result is an error
	params    []parameter
	results   []types.Type // without the error
	stream    *stream      // if the result is one
}

// A stream is a result that has items: an iterator or a channel.
type stream struct {
	channel bool
	items   []types.Type // one, or two for iter.Seq2
	fails   bool         // an iter.Seq2 whose second item is an error
}

// streams reports whether a package has functions that return iterators or channels.
func (s *source) streams() bool {
	for _, f := range s.functions {
		if f.stream != nil {
			return true
		}
	}
	return false
}

// streamOf returns what a type streams; nil if it does not.
func streamOf(t types.Type) *stream {
	if c, ok := t.Underlying().(*types.Chan); ok && c.Dir() != types.SendOnly {
		return &stream{channel: true, items: []types.Type{c.Elem()}}
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != "iter" || named.TypeArgs() == nil {
		return nil
	}
	s := &stream{}
	for arg := range named.TypeArgs().Types() {
		if types.Identical(arg, types.Universe.Lookup("error").Type()) && len(s.items) == 1 {
			s.fails = true
			continue
		}
		s.items = append(s.items, arg)
	}
	return s
}

type parameter struct {
	name string
	typ  types.Type
	lent *lent // if Python lends the argument
}

var pythonName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// find finds the exported functions of a package, its imported variables, and the kinds of its errors.
func (g *generator) find(s *source) {
	for _, file := range s.files {
		belongs := map[*ast.Comment]bool{}
		for _, declaration := range file.Decls {
			declared, ok := declaration.(*ast.FuncDecl)
			if !ok || declared.Doc == nil {
				continue
			}
			for _, comment := range declared.Doc.List {
				if name, found := directiveOf(comment.Text, directive); found {
					belongs[comment] = true
					g.function(s, declared, name)
				}
			}
		}
		g.findImports(s, file, belongs)
		for _, group := range file.Comments {
			for _, comment := range group.List {
				if belongs[comment] {
					continue
				}
				if _, found := directiveOf(comment.Text, directive); found {
					g.fail(comment.Pos(), "%s must be directly above a function, as a part of its comment", directive)
				}
				if _, found := directiveOf(comment.Text, importDirective); found {
					g.fail(comment.Pos(), "%s must be directly above a variable of the package, as a part of its comment",
						importDirective)
				}
			}
		}
	}
	if len(s.functions) > 0 {
		g.findKinds(s)
	}
}

func (g *generator) function(s *source, declared *ast.FuncDecl, name string) {
	object, ok := s.info.Defs[declared.Name].(*types.Func)
	if !ok {
		return
	}
	at := declared.Name.Pos()
	f := &function{name: name, object: object, declared: declared, signature: object.Signature()}
	failed := len(g.errors)
	if f.signature.TypeParams() != nil || f.signature.RecvTypeParams() != nil {
		g.fail(at, "%s cannot be exported: it is generic. Export a function that calls it with its types", object.Name())
		return
	}
	if receiver := f.signature.Recv(); receiver != nil {
		named, ok := types.Unalias(receiver.Type()).(*types.Named)
		if !ok {
			g.fail(at, "%s cannot be exported: its receiver is a pointer, and Python would call it on a copy. "+
				"Use a value, or a function that returns what it has changed", object.Name())
			return
		}
		f.params = append(f.params, parameter{name: orElse(receiver.Name(), snake(named.Obj().Name())), typ: receiver.Type()})
		if f.name == "" {
			f.name = snake(named.Obj().Name()) + "_" + snake(object.Name())
		}
	}
	if f.name == "" {
		f.name = snake(object.Name())
	}
	if !pythonName.MatchString(f.name) || keywords[f.name] {
		g.fail(at, "%s cannot be exported as %q: that is no name in Python. Write another one: %s NAME", object.Name(),
			f.name, directive)
	} else if before, taken := g.names[f.name]; taken {
		g.fail(at, "%s cannot be exported as %s: %s:%d exports that name. Write another one: %s NAME", object.Name(),
			f.name, filepath.Base(before.Filename), before.Line, directive)
	}
	g.names[f.name] = g.fset.Position(at)
	params := f.signature.Params()
	for i := range params.Len() {
		v := params.At(i)
		if isContext(v.Type()) {
			if i != 0 {
				g.fail(v.Pos(), "%s cannot be exported: its context must be the first parameter", object.Name())
			}
			f.context = true
			continue
		}
		f.params = append(f.params, parameter{orElse(v.Name(), "arg"+strconv.Itoa(i)), v.Type(), lentOf(v.Type())})
	}
	results := f.signature.Results()
	for i := range results.Len() {
		v := results.At(i)
		if i == results.Len()-1 && types.Identical(v.Type(), types.Universe.Lookup("error").Type()) {
			f.fails = true
			continue
		}
		f.results = append(f.results, v.Type())
	}
	seen := map[string]bool{}
	for i := range f.params {
		p := &f.params[i]
		what := object.Name() + " cannot be exported: its parameter " + p.name
		switch {
		case p.lent == nil:
			g.visit(s, p.typ, what, at, map[string]bool{})
		case p.lent.call != nil:
			g.visitCallable(s, p.lent.call, what, at)
		}
		if p.name = python(snake(p.name)); reserved[p.name] {
			p.name += "_"
		}
		if seen[p.name] || strings.HasPrefix(p.name, "_") {
			p.name = "arg" + strconv.Itoa(i) + "_"
		}
		seen[p.name] = true
	}
	if len(f.results) == 1 {
		f.stream = streamOf(f.results[0])
	}
	if f.stream != nil {
		for _, item := range f.stream.items {
			g.visit(s, item, object.Name()+" cannot be exported: an item of its result", at, map[string]bool{})
		}
	}
	for _, result := range f.results {
		if f.stream != nil {
			break
		}
		if streamOf(result) != nil {
			g.fail(at, "%s cannot be exported: its result is %s: an iterator can only be the one result, besides an error",
				object.Name(), types.TypeString(result, short))
			continue
		}
		g.visit(s, result, object.Name()+" cannot be exported: its result", at, map[string]bool{})
	}
	if len(g.errors) == failed {
		s.functions = append(s.functions, f)
		g.all = append(g.all, f)
	}
}

func isContext(t types.Type) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "context" && named.Obj().Name() == "Context"
}

// reserved: the keyword arguments of calls.
var reserved = map[string]bool{"timeout": true, "on_timeout": true}

func orElse(name, other string) string {
	if name == "" || name == "_" {
		return other
	}
	return name
}

// text returns the declaration on one line.
func (g *generator) text(f *function) string {
	var out bytes.Buffer
	printer.Fprint(&out, token.NewFileSet(), &ast.FuncDecl{Recv: f.declared.Recv, Name: f.declared.Name, Type: f.declared.Type})
	return strings.Join(strings.Fields(out.String()), " ")
}

// snake turns a name of Go's into one of Python's: ParseURL becomes parse_url.
func snake(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, c := range runes {
		upper := isUpper(c)
		if upper && i > 0 && runes[i-1] != '_' &&
			(!isUpper(runes[i-1]) || i+1 < len(runes) && isLower(runes[i+1])) {
			out.WriteByte('_')
		}
		out.WriteString(strings.ToLower(string(c)))
	}
	return out.String()
}

func isUpper(c rune) bool { return strings.ToLower(string(c)) != string(c) }
func isLower(c rune) bool { return strings.ToUpper(string(c)) != string(c) }

// python returns a name that is not one of Python's keywords.
func python(name string) string {
	if keywords[name] {
		return name + "_"
	}
	return name
}

var keywords = set("False None True and as assert async await break class continue def del elif else except finally " +
	"for from global if import in is lambda nonlocal not or pass raise return try while with yield")

func set(words string) map[string]bool {
	found := map[string]bool{}
	for _, word := range strings.Fields(words) {
		found[word] = true
	}
	return found
}
