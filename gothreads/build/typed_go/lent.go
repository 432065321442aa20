package main

import (
	"fmt"
	"go/token"
	"go/types"
	"strings"
)

// A lent parameter is an object of Python's that Go calls while the call lasts: a file object, or a callable.
type lent struct {
	file string // "reader" or "writer"; else it is a callable
	call *callable
}

// A callable is what a func parameter gets.
type callable struct {
	context  bool
	params   []types.Type
	variadic bool // the last parameter is a slice of the rest
	results  []types.Type
	fails    bool // the last result is an error
}

// lentOf returns how Python lends an argument of a type; nil if it passes a value.
func lentOf(t types.Type) *lent {
	if named, ok := types.Unalias(t).(*types.Named); ok {
		switch typeName(named) {
		case "io.Reader":
			return &lent{file: "reader"}
		case "io.Writer":
			return &lent{file: "writer"}
		}
	}
	if signature, ok := t.Underlying().(*types.Signature); ok && streamOf(t) == nil {
		return &lent{call: callableOf(signature)}
	}
	return nil
}

func callableOf(signature *types.Signature) *callable {
	c := &callable{variadic: signature.Variadic()}
	for i := range signature.Params().Len() {
		if t := signature.Params().At(i).Type(); i == 0 && isContext(t) {
			c.context = true
		} else {
			c.params = append(c.params, t)
		}
	}
	results := signature.Results()
	for i := range results.Len() {
		t := results.At(i).Type()
		if i == results.Len()-1 && types.Identical(t, types.Universe.Lookup("error").Type()) {
			c.fails = true
		} else {
			c.results = append(c.results, t)
		}
	}
	return c
}

// visitCallable is visit for what a callable takes and returns.
func (g *generator) visitCallable(s *source, c *callable, what string, at token.Pos) {
	for i, t := range c.params {
		g.visit(s, t, fmt.Sprintf("%s: its parameter %d", what, i+1), at, map[string]bool{})
	}
	for i, t := range c.results {
		g.visit(s, t, fmt.Sprintf("%s: its result %d", what, i+1), at, map[string]bool{})
	}
}

// describeLent is describe for a lent parameter.
func (g *generator) describeLent(l *lent) any {
	if l.call == nil {
		return []any{l.file}
	}
	params, results := g.describeCallable(l.call)
	return []any{"callable", params, results}
}

func (g *generator) describeCallable(c *callable) (params, results []any) {
	params, results = []any{}, []any{}
	for i, t := range c.params {
		described := g.describe(t)
		if c.variadic && i == len(c.params)-1 {
			described = []any{"rest", described}
		}
		params = append(params, described)
	}
	for _, t := range c.results {
		results = append(results, g.describe(t))
	}
	return params, results
}

// lent writes the statements that make a%d, an argument, of an object.
func (e *emitter) lent(f *function, i int) {
	p := f.params[i]
	ctx := "ctx"
	if !f.context {
		ctx = e.imported("context") + ".Background()"
	}
	e.printf("o%d := r.Object(%s, %q)\n", i, ctx, f.name+": "+p.name)
	switch p.lent.file {
	case "reader":
		e.printf("a%d := o%d.Reader()\n", i, i)
	case "writer":
		e.printf("a%d := o%d.Writer()\n", i, i)
	default:
		e.printf("a%d := func%s {\n", i, e.head(p.lent.call))
		e.body(p.lent.call, fmt.Sprintf("o%d", i), ctx)
		e.printf("}\n")
	}
}

// head returns the parameters and results of a func that calls a callable.
func (e *emitter) head(c *callable) string {
	var params, results []string
	if c.context {
		params = append(params, "ctx "+e.imported("context")+".Context")
	}
	for i, t := range c.params {
		text := e.typ(t)
		if c.variadic && i == len(c.params)-1 {
			text = "..." + e.typ(t.(*types.Slice).Elem())
		}
		params = append(params, fmt.Sprintf("p%d %s", i, text))
	}
	for i, t := range c.results {
		results = append(results, fmt.Sprintf("v%d %s", i, e.typ(t)))
	}
	if c.fails {
		results = append(results, "err error")
	}
	return fmt.Sprintf("(%s) (%s)", strings.Join(params, ", "), strings.Join(results, ", "))
}

// body writes the statements of such a func. ctx is the context that ends a call, if the func has none of its own.
func (e *emitter) body(c *callable, object, ctx string) {
	if c.context {
		ctx = "ctx"
	}
	var values []string
	for i := range c.results {
		values = append(values, fmt.Sprintf("v%d", i))
	}
	e.printf("w := %s.Arguments(%d)\n", object, len(c.params))
	for i, t := range c.params {
		e.printf("%s\n", e.write(t, fmt.Sprintf("p%d", i)))
	}
	if c.fails {
		failed := strings.Join(append(values, "err"), ", ")
		e.printf("r, err := %s.Call(%s, w)\nif err != nil {\nreturn %s\n}\n", object, ctx, failed)
	} else {
		e.printf("r := %s.MustCall(w)\n", object)
	}
	switch len(c.results) {
	case 0:
		e.printf("r.Ignore()\n")
	case 1:
		e.printf("v0 = %s\n", e.read(c.results[0]))
	default:
		e.printf("if r.Fixed(%d) {\n", len(c.results))
		for i, t := range c.results {
			e.printf("if v%d = %s; !r.BadAt(%d) {\n", i, e.read(t), i)
		}
		e.printf("%s\n", strings.Repeat("}\n", len(c.results)+1))
	}
	if c.fails {
		values = append(values, object+".End(r)")
	} else {
		e.printf("%s.MustEnd(r)\n", object)
	}
	e.printf("return %s\n", strings.Join(values, ", "))
}

// guards reports whether a function takes callables that cannot return an error.
func (f *function) guards() bool {
	for _, p := range f.params {
		if p.lent != nil && p.lent.call != nil && !p.lent.call.fails {
			return true
		}
	}
	return false
}

// lends reports whether a package has functions to which Python lends arguments.
func (s *source) lends() bool {
	for _, f := range s.functions {
		for _, p := range f.params {
			if p.lent != nil {
				return true
			}
		}
	}
	return false
}
