package main

import (
	"go/token"
	"go/types"
	"sort"
)

// An errorKind is a kind of error that gets an exception class of its own: a variable, as errors.Is finds it, or a type,
// as errors.As finds it.
type errorKind struct {
	name    string // in Python and Go
	object  types.Object
	number  int
	pointer bool // the error is a pointer to the type
	both    bool // or the type itself
	fields  []field
	value   types.Type // of a type that is not a struct
}

// findKinds finds the kinds of errors that a package exports.
func (g *generator) findKinds(s *source) {
	err := types.Universe.Lookup("error").Type().Underlying().(*types.Interface)
	scope := s.types.Scope()
	var objects []types.Object
	for _, name := range scope.Names() {
		if object := scope.Lookup(name); object.Exported() {
			objects = append(objects, object)
		}
	}
	sort.Slice(objects, func(i, j int) bool { return objects[i].Pos() < objects[j].Pos() })
	for _, object := range objects {
		kind := errorKind{name: object.Name(), object: object, number: len(g.kinds)}
		switch o := object.(type) {
		case *types.Var:
			if !types.Identical(o.Type(), types.Universe.Lookup("error").Type()) {
				continue
			}
		case *types.TypeName:
			named, ok := o.Type().(*types.Named)
			if !ok || named.TypeParams() != nil || types.IsInterface(named) {
				continue
			}
			kind.pointer = types.Implements(types.NewPointer(named), err)
			kind.both = types.Implements(named, err)
			if !kind.pointer {
				continue
			}
			if _, ok := named.Underlying().(*types.Struct); ok {
				for _, f := range fields(named) {
					if g.crosses(s, f.typ) && reaches(named, f) {
						kind.fields = append(kind.fields, f)
					}
				}
			} else if basic, ok := named.Underlying().(*types.Basic); ok && g.crosses(s, types.Typ[basic.Kind()]) {
				kind.value = types.Typ[basic.Kind()]
			}
		default:
			continue
		}
		s.kinds = append(s.kinds, kind)
		g.kinds = append(g.kinds, kind)
	}
}

// crosses reports whether a type can cross. If it cannot, that is no error here: an exception has fewer attributes.
func (g *generator) crosses(s *source, t types.Type) bool {
	before, classes := len(g.errors), len(g.order)
	g.visit(s, t, "", token.NoPos, map[string]bool{})
	if len(g.errors) == before {
		return true
	}
	g.errors = g.errors[:before]
	for _, c := range g.order[classes:] {
		delete(g.classes, typeName(c.named))
	}
	g.order = g.order[:classes]
	return false
}
