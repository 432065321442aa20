package main

import (
	"go/constant"
	"go/token"
	"go/types"
	"hash/fnv"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// A class is a named type of Go's that gets a class in Python: a struct, or an enumeration.
type class struct {
	name    string // in Python
	named   *types.Named
	fields  []field
	members []member // of an enumeration
	tag     uint32
}

type field struct {
	name  string // in Python
	owner string // the path and name of the struct that declares it
	go_   string
	typ   types.Type
}

type member struct {
	name, go_ string
	value     constant.Value
}

// shape says how a type crosses.
type shape int

const (
	shapeOther shape = iota
	shapeBasic
	shapeEnum
	shapeStruct
	shapeTime
	shapeDuration
	shapeText
	shapeAny
	shapeBytes
	shapeNumbers
	shapeList
	shapeArray
	shapeSet
	shapeDict
	shapePointer
)

func (g *generator) shape(t types.Type) shape {
	t = types.Unalias(t)
	if named, ok := t.(*types.Named); ok {
		switch typeName(named) {
		case "time.Time":
			return shapeTime
		case "time.Duration":
			return shapeDuration
		}
		if isText(named) {
			return shapeText
		}
		if basic, ok := named.Underlying().(*types.Basic); ok {
			if basic.Info()&(types.IsInteger|types.IsString) != 0 && len(members(named)) > 0 {
				return shapeEnum
			}
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return shapeBasic
	case *types.Struct:
		return shapeStruct
	case *types.Interface:
		if u.Empty() {
			return shapeAny
		}
	case *types.Slice:
		if isByte(u.Elem()) {
			return shapeBytes
		}
		if g.isNumber(u.Elem()) {
			return shapeNumbers
		}
		return shapeList
	case *types.Array:
		return shapeArray
	case *types.Map:
		if s, ok := u.Elem().Underlying().(*types.Struct); ok && s.NumFields() == 0 {
			return shapeSet
		}
		return shapeDict
	case *types.Pointer:
		return shapePointer
	}
	return shapeOther
}

func isByte(t types.Type) bool { return types.Identical(t, types.Typ[types.Byte]) }

// isNumber reports whether a slice of these is a buffer of numbers.
func (g *generator) isNumber(t types.Type) bool {
	basic, ok := t.Underlying().(*types.Basic)
	return ok && basic.Kind() != types.Uintptr && basic.Info()&(types.IsInteger|types.IsFloat) != 0 &&
		g.shape(t) == shapeBasic
}

// isText reports whether a type writes and reads itself as text.
func isText(named *types.Named) bool {
	writes, _ := types.MissingMethod(named, textMarshaler, true)
	reads, _ := types.MissingMethod(types.NewPointer(named), textUnmarshaler, true)
	if _, ok := named.Underlying().(*types.Interface); ok {
		return false
	}
	if writes != nil {
		writes, _ = types.MissingMethod(types.NewPointer(named), textMarshaler, true)
	}
	return writes == nil && reads == nil
}

var textMarshaler, textUnmarshaler = textInterfaces()

func textInterfaces() (marshaler, unmarshaler *types.Interface) {
	err := types.Universe.Lookup("error").Type()
	text := types.NewTuple(types.NewVar(token.NoPos, nil, "", types.NewSlice(types.Typ[types.Byte])))
	fails := types.NewVar(token.NoPos, nil, "", err)
	marshal := types.NewSignatureType(nil, nil, nil, nil, types.NewTuple(text.At(0), fails), false)
	unmarshal := types.NewSignatureType(nil, nil, nil, text, types.NewTuple(fails), false)
	return types.NewInterfaceType([]*types.Func{types.NewFunc(token.NoPos, nil, "MarshalText", marshal)}, nil).Complete(),
		types.NewInterfaceType([]*types.Func{types.NewFunc(token.NoPos, nil, "UnmarshalText", unmarshal)}, nil).Complete()
}

// typeName is a type's name with the path of its package.
func typeName(t types.Type) string { return types.TypeString(t, nil) }

// visit checks that a type can cross, and collects its classes. what and at are for errors; within: the types around.
func (g *generator) visit(s *source, t types.Type, what string, at token.Pos, within map[string]bool) {
	t = types.Unalias(t)
	key := typeName(t)
	if within[key] {
		return
	}
	within[key] = true
	cannot := func(why string) { g.fail(at, "%s is %s: %s", what, types.TypeString(t, short), why) }
	if why := unnameable(s, t); why != "" {
		cannot(why)
		return
	}
	if g.endless(t) {
		cannot("it consists of itself; only structs can contain themselves")
		return
	}
	switch g.shape(t) {
	case shapeBasic:
		switch basic := t.Underlying().(*types.Basic); {
		case basic.Kind() == types.Uintptr || basic.Kind() == types.UnsafePointer:
			cannot("an address means nothing in Python")
		case basic.Info()&types.IsUntyped != 0 || basic.Kind() == types.Invalid:
			cannot("it has no value in Python")
		}
	case shapeEnum:
		g.class(t.(*types.Named))
	case shapeStruct:
		named, ok := t.(*types.Named)
		if !ok {
			cannot("a struct needs a name, for its class in Python")
			return
		}
		c := g.class(named)
		seen := map[string]string{}
		for _, f := range c.fields {
			switch other := seen[f.name]; {
			case !reaches(named, f):
				g.fail(at, "%s is %s: Go does not find its field %s, since another field or a method has that name. Rename "+
					"one, or leave the field out with a tag: `json:\"-\"`", what, types.TypeString(t, short), f.go_)
			case other != "":
				g.fail(at, "%s is %s: its fields %s and %s are both %s in Python. Name one with a tag: `json:\"name\"`", what,
					types.TypeString(t, short), other, f.go_, f.name)
			}
			seen[f.name] = f.go_
			g.visit(s, f.typ, what+"."+f.go_, at, within)
		}
	case shapeNumbers, shapeBytes, shapeTime, shapeDuration, shapeText, shapeAny:
	case shapeList:
		g.visit(s, t.Underlying().(*types.Slice).Elem(), what+"[]", at, within)
	case shapeArray:
		g.visit(s, t.Underlying().(*types.Array).Elem(), what+"[]", at, within)
	case shapeSet, shapeDict:
		m := t.Underlying().(*types.Map)
		if k := g.shape(m.Key()); k != shapeBasic && k != shapeEnum && k != shapeTime {
			cannot("its keys must be numbers, strings or bools")
			return
		}
		g.visit(s, m.Key(), what+"'s key", at, within)
		if g.shape(t) == shapeDict {
			g.visit(s, m.Elem(), what+"[]", at, within)
		}
	case shapePointer:
		elem := t.Underlying().(*types.Pointer).Elem()
		switch g.shape(elem) {
		case shapePointer, shapeAny:
			cannot("None would be ambiguous")
			return
		}
		g.visit(s, elem, what, at, within)
	default:
		cannot(reason(t))
	}
	if g.shape(t) != shapeStruct { // which is checked once
		delete(within, key)
	}
}

// unnameable says why generated code in a package cannot name a type; "" if it can.
func unnameable(s *source, t types.Type) string {
	var object *types.TypeName
	var args *types.TypeList
	switch t := t.(type) {
	case *types.Named:
		object, args = t.Obj(), t.TypeArgs()
	case *types.Alias: // of an argument; others are not named
		object, args = t.Obj(), t.TypeArgs()
	case *types.Slice:
		return unnameable(s, types.Unalias(t.Elem()))
	case *types.Pointer:
		return unnameable(s, types.Unalias(t.Elem()))
	}
	if object == nil || object.Pkg() == nil {
		return ""
	}
	path := object.Pkg().Path()
	if !object.Exported() && path != s.pkg.Path {
		return "a type of another package that is not exported"
	}
	if before, _, inner := strings.Cut("/"+path+"/", "/internal/"); inner && s.pkg.Path != "command-line-arguments" &&
		!strings.HasPrefix("/"+s.pkg.Path+"/", before+"/") {
		return "a type of an internal package, which this package may not import"
	}
	for arg := range args.Types() {
		if why := unnameable(s, arg); why != "" {
			return why
		}
	}
	return ""
}

// endless reports whether a type consists of itself, without a struct in between: type List []List.
func (g *generator) endless(t types.Type) bool {
	first := typeName(t)
	for seen := map[string]bool{}; ; {
		t = types.Unalias(t)
		key := typeName(t)
		if seen[key] {
			return key == first
		}
		seen[key] = true
		switch g.shape(t) {
		case shapeList, shapeArray, shapeDict, shapePointer:
			t = t.Underlying().(interface{ Elem() types.Type }).Elem()
		default:
			return false
		}
	}
}

// reason says why a type cannot cross.
func reason(t types.Type) string {
	if streamOf(t) != nil {
		return "an iterator or a channel can only be a result"
	}
	switch t.Underlying().(type) {
	case *types.Chan:
		return "a channel can only be a result, from which Python receives"
	case *types.Signature:
		return "a func can only be a parameter of an exported function, for a callable of Python's"
	case *types.Interface:
		if types.Identical(t, types.Universe.Lookup("error").Type()) {
			return "an error can only be the last result"
		}
		if lentOf(t) != nil {
			return "a file object can only be a parameter of an exported function"
		}
		return "of interfaces, only `any` has a value in Python; use the type that is in it, or io.Reader or io.Writer for a file object"
	default:
		return "it has no value in Python"
	}
}

func short(p *types.Package) string { return p.Name() }

// class returns the class of a named type.
func (g *generator) class(named *types.Named) *class {
	key := typeName(named)
	c := g.classes[key]
	if c == nil {
		c = &class{named: named}
		g.classes[key] = c
		g.order = append(g.order, c)
		if g.shape(named) == shapeEnum {
			c.members = members(named)
		} else {
			c.fields = fields(named)
		}
	}
	return c
}

// nameClasses chooses the classes' names in Python: Go's, with the package's before it if another class has that.
func (g *generator) nameClasses() {
	bare := func(c *class) string {
		name := upperFirst(strings.TrimLeft(c.named.Obj().Name(), "_"))
		for arg := range c.named.TypeArgs().Types() {
			text := types.TypeString(arg, func(*types.Package) string { return "" })
			for _, word := range strings.FieldsFunc(text, func(c rune) bool { return !strings.ContainsRune("_", c) && !isWord(c) }) {
				name += upperFirst(word)
			}
		}
		return name
	}
	count := map[string]int{}
	for _, kind := range g.kinds {
		count[kind.name]++
	}
	for _, c := range g.order {
		count[bare(c)]++
	}
	taken := map[string]bool{}
	for _, c := range g.order {
		if c.name = bare(c); count[c.name] > 1 && c.named.Obj().Pkg() != nil {
			c.name = upperFirst(c.named.Obj().Pkg().Name()) + c.name
		}
		c.name = python(c.name)
		for taken[c.name] {
			c.name += "_"
		}
		taken[c.name] = true
		h := fnv.New32a()
		h.Write([]byte(c.name))
		for _, f := range c.fields {
			h.Write([]byte("\x00" + f.name + " " + typeName(f.typ)))
		}
		c.tag = h.Sum32() | 1<<31 // always written in four bytes
	}
}

func isWord(c rune) bool { return isUpper(c) || isLower(c) || c >= '0' && c <= '9' }

func upperFirst(name string) string {
	for i, c := range name {
		return strings.ToUpper(string(c)) + name[i+len(string(c)):]
	}
	return name
}

// fields returns the fields of a struct that cross, with those of embedded structs, as encoding/json has them: an outer
// field hides an inner one.
func fields(named *types.Named) []field {
	var found []field
	var collect func(named *types.Named, hidden map[string]bool)
	collect = func(named *types.Named, hidden map[string]bool) {
		s := named.Underlying().(*types.Struct)
		own := map[string]bool{}
		for name := range hidden {
			own[name] = true
		}
		for i := range s.NumFields() {
			if !s.Field(i).Embedded() {
				own[s.Field(i).Name()] = true
			}
		}
		for i := range s.NumFields() {
			v := s.Field(i)
			tag, tagged := reflect.StructTag(s.Tag(i)).Lookup("json")
			name, _, _ := strings.Cut(tag, ",")
			if tag == "-" {
				continue
			}
			if inner, ok := types.Unalias(v.Type()).(*types.Named); ok && v.Embedded() && name == "" {
				if _, ok := inner.Underlying().(*types.Struct); ok && typeName(inner) != "time.Time" && !isText(inner) {
					collect(inner, own)
					continue
				}
			}
			if !v.Exported() || hidden[v.Name()] {
				continue
			}
			if !tagged || !pythonName.MatchString(name) {
				name = snake(v.Name())
			}
			owner := named.Obj().Pkg().Path() + "." + named.Obj().Name()
			found = append(found, field{python(name), owner, v.Name(), v.Type()})
		}
	}
	collect(named, map[string]bool{})
	return found
}

// reaches reports whether v.f is the field: nothing hides it, and no other is embedded as deeply.
func reaches(named *types.Named, f field) bool {
	object, _, _ := types.LookupFieldOrMethod(named, true, named.Obj().Pkg(), f.go_)
	v, ok := object.(*types.Var)
	return ok && types.Identical(v.Type(), f.typ)
}

// members returns the constants of a type that its package exports, in the order of their values, then of their names.
func members(named *types.Named) []member {
	if named.Obj().Pkg() == nil || named.TypeArgs() != nil {
		return nil
	}
	var found []member
	scope := named.Obj().Pkg().Scope()
	for _, name := range scope.Names() {
		c, ok := scope.Lookup(name).(*types.Const)
		if ok && c.Exported() && types.Identical(c.Type(), named) {
			found = append(found, member{go_: name, value: c.Val()})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return constant.Compare(found[i].value, token.LSS, found[j].value) })
	prefix := named.Obj().Name()
	strip := true
	for _, m := range found {
		rest := strings.TrimPrefix(m.go_, prefix)
		strip = strip && rest != "" && rest != m.go_ && isUpper([]rune(rest)[0])
	}
	taken := map[string]bool{}
	for i := range found {
		m := &found[i]
		if m.name = m.go_; strip {
			m.name = strings.TrimPrefix(m.go_, prefix)
		}
		if m.name = strings.ToUpper(snake(m.name)); taken[m.name] || m.name == "MRO" {
			m.name += "_" + strconv.Itoa(i)
		}
		taken[m.name] = true
	}
	return found
}
