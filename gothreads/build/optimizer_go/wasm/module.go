// Package wasm reads and writes WebAssembly modules and the code of their functions, as far as the optimizer needs it:
// the features that Go's linker and gothreads use. It checks what it reads; what it does not know is an error, never a
// guess.
package wasm

import (
	"bytes"
	"fmt"
	"slices"
)

// The sections of a module.
const (
	sectionCustom   = 0
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionGlobal   = 6
	sectionElement  = 9
	sectionCode     = 10
)

const header = "\x00asm\x01\x00\x00\x00"

// A FuncType is the type of a function.
type FuncType struct{ Params, Results []ValType }

// Equal reports whether two types are the same.
func (t FuncType) Equal(u FuncType) bool {
	return slices.Equal(t.Params, u.Params) && slices.Equal(t.Results, u.Results)
}

// A Global is the type of a global variable.
type Global struct {
	Type    ValType
	Mutable bool
}

// A Segment fills a part of the table when the module is instantiated.
type Segment struct {
	Offset    int32
	Functions []int
}

// A Module is a parsed module. Functions are counted with the imported ones first, and are only added at the end, as
// Go's program counters contain their indices.
//
// Sections that the optimizer does not change keep their bytes. Tables and Elements do until they are set.
type Module struct {
	Types    []FuncType
	Imported int   // how many functions are imported
	Funcs    []int // the type of each function, imported ones first
	Globals  []Global
	Bodies   [][]byte // the code of each function that is not imported
	Names    map[int]string
	Tables   int       // how many tables there are
	Segments []Segment // the active segments of table 0

	sections []section
	added    []string // the names of added functions
}

type section struct {
	id      byte
	content []byte
}

// Parse reads a module.
func Parse(data []byte) (*Module, error) {
	if !bytes.HasPrefix(data, []byte(header)) {
		return nil, fmt.Errorf("not a WebAssembly module of version 1")
	}
	m := &Module{Names: map[int]string{}}
	r := NewReader(data[len(header):])
	for r.Len() > 0 {
		s := section{id: r.Byte()}
		s.content = r.Bytes(int(r.U32()))
		if r.Err() != nil {
			return nil, fmt.Errorf("sections: %w", r.Err())
		}
		m.sections = append(m.sections, s)
		if err := m.parseSection(s); err != nil {
			return nil, fmt.Errorf("section %d: %w", s.id, err)
		}
	}
	if len(m.Bodies) != len(m.Funcs)-m.Imported {
		return nil, fmt.Errorf("%d functions have %d bodies", len(m.Funcs)-m.Imported, len(m.Bodies))
	}
	for _, t := range m.Funcs {
		if t >= len(m.Types) {
			return nil, fmt.Errorf("a function has type %d of %d", t, len(m.Types))
		}
	}
	return m, nil
}

func (m *Module) parseSection(s section) error {
	r := NewReader(s.content)
	switch s.id {
	case sectionType:
		for range r.Count() {
			if form := r.Byte(); form != 0x60 {
				r.Fail("a type that is not a function's")
			}
			m.Types = append(m.Types, FuncType{r.valTypes(), r.valTypes()})
		}
	case sectionImport:
		for range r.Count() {
			m.parseImport(r)
		}
	case sectionFunction:
		for range r.Count() {
			m.Funcs = append(m.Funcs, int(r.U32()))
		}
	case sectionTable:
		m.Tables += r.Count()
		return nil
	case sectionGlobal:
		for range r.Count() {
			m.Globals = append(m.Globals, Global{ValType(r.Byte()), r.Byte() == 1})
			for r.instr(&Lists{}).Op != OpEnd && r.Err() == nil {
			}
		}
	case sectionElement:
		for range r.Count() {
			m.parseSegment(r)
		}
	case sectionCode:
		for range r.Count() {
			m.Bodies = append(m.Bodies, r.Bytes(int(r.U32())))
		}
	case sectionCustom:
		if r.Name() == "name" {
			m.parseNames(r)
		}
		return r.Err()
	default:
		return nil
	}
	if r.Len() != 0 {
		r.Fail("%d bytes too many", r.Len())
	}
	return r.Err()
}

func (r *Reader) valTypes() []ValType {
	var types []ValType
	for range r.Count() {
		types = append(types, ValType(r.Byte()))
	}
	return types
}

func (m *Module) parseImport(r *Reader) {
	r.Name()
	r.Name()
	switch kind := r.Byte(); kind {
	case 0:
		m.Imported++
		m.Funcs = append(m.Funcs, int(r.U32()))
	case 1:
		m.Tables++
		r.Byte()
		r.limits()
	case 2:
		r.limits()
	case 3:
		m.Globals = append(m.Globals, Global{ValType(r.Byte()), r.Byte() == 1})
	default:
		r.Fail("an import of kind %d", kind)
	}
}

func (r *Reader) limits() {
	flags := r.Byte()
	if flags > 3 {
		r.Fail("limits with flags %#x", flags)
	}
	r.U32()
	if flags&1 != 0 {
		r.U32()
	}
}

func (m *Module) parseSegment(r *Reader) {
	switch flags := r.U32(); flags {
	case 0, 2: // active, of table 0; of another table
		table := uint32(0)
		if flags == 2 {
			table = r.U32()
		}
		offset, end := r.instr(&Lists{}), r.instr(&Lists{})
		if offset.Op != I32Const || end.Op != OpEnd || flags == 2 && r.Byte() != 0 {
			r.Fail("elements of another kind, or at an offset that is not constant")
		}
		if segment := (Segment{int32(offset.Imm), r.functions()}); table == 0 {
			m.Segments = append(m.Segments, segment)
		}
	case 1, 3: // passive, declarative: it only names functions here
		if kind := r.Byte(); kind != 0 {
			r.Fail("elements of kind %d", kind)
		}
		r.functions()
	default:
		r.Fail("elements with flags %d", flags)
	}
}

func (r *Reader) functions() []int {
	functions := make([]int, r.Count())
	for i := range functions {
		functions[i] = int(r.U32())
	}
	return functions
}

func (m *Module) parseNames(r *Reader) {
	for r.Len() > 0 {
		kind := r.Byte()
		part := NewReader(r.Bytes(int(r.U32())))
		if kind != 1 {
			continue
		}
		for range part.Count() {
			index := int(part.U32())
			m.Names[index] = part.Name()
		}
		if part.Err() != nil {
			r.Fail("names: %w", part.Err())
		}
	}
}

// Type returns the type of a function.
func (m *Module) Type(function int) FuncType { return m.Types[m.Funcs[function]] }

// Name returns a function's name, or its number if it has none.
func (m *Module) Name(function int) string {
	if name, ok := m.Names[function]; ok {
		return name
	}
	return fmt.Sprintf("function %d", function)
}

// FuncOf returns the index of the first function that has a name, or -1.
func (m *Module) FuncOf(name string) int {
	found := -1
	for function, candidate := range m.Names {
		if candidate == name && (found < 0 || function < found) {
			found = function
		}
	}
	return found
}

// Add appends a function, and returns its index.
func (m *Module) Add(name string, typeIndex int, body []byte) int {
	function := len(m.Funcs)
	m.Funcs = append(m.Funcs, typeIndex)
	m.Bodies = append(m.Bodies, body)
	m.Names[function] = name
	m.added = append(m.added, name)
	return function
}

// AddTable appends a table of the same size as table 0, which must be the only one, with these elements. It returns the
// new table's index.
func (m *Module) AddTable(segments []Segment) (int, error) {
	if m.Tables != 1 {
		return 0, fmt.Errorf("the module has %d tables", m.Tables)
	}
	for i, s := range m.sections {
		switch s.id {
		case sectionTable:
			r := NewReader(s.content)
			if r.U32() != 1 {
				return 0, fmt.Errorf("the module imports its table")
			}
			table := r.Rest()
			m.sections[i].content = append(append(AppendUnsigned(nil, 2), table...), table...)
			m.Tables = 2
		case sectionElement:
			r := NewReader(s.content)
			count := int(r.U32())
			content := append(AppendUnsigned(nil, uint64(count+len(segments))), r.Rest()...)
			for _, segment := range segments {
				content = AppendUnsigned(append(content, 2), 1) // active, of table 1
				content = Instr{Op: OpEnd}.Append(Const(segment.Offset).Append(content, nil), nil)
				content = AppendUnsigned(append(content, 0), uint64(len(segment.Functions)))
				for _, function := range segment.Functions {
					content = AppendUnsigned(content, uint64(function))
				}
			}
			m.sections[i].content = content
		}
	}
	return 1, nil
}

// Encode returns the module as it is written.
func (m *Module) Encode() []byte {
	size := len(header)
	for _, s := range m.sections {
		size += len(s.content)
	}
	out := append(make([]byte, 0, 2*size), header...)
	for _, s := range m.sections {
		out = AppendVector(append(out, s.id), m.content(s))
	}
	return out
}

// content returns a section as it is now.
func (m *Module) content(s section) []byte {
	switch s.id {
	case sectionFunction:
		out := AppendUnsigned(nil, uint64(len(m.Funcs)-m.Imported))
		for _, t := range m.Funcs[m.Imported:] {
			out = AppendUnsigned(out, uint64(t))
		}
		return out
	case sectionCode:
		out := AppendUnsigned(nil, uint64(len(m.Bodies)))
		for _, body := range m.Bodies {
			out = AppendVector(out, body)
		}
		return out
	case sectionCustom:
		if r := NewReader(s.content); r.Name() == "name" && len(m.added) > 0 {
			return m.extendedNames(s.content[:r.At()], r)
		}
	}
	return s.content
}

// extendedNames returns the name section, with the added functions. title is how it begins, r reads what follows.
func (m *Module) extendedNames(title []byte, r *Reader) []byte {
	out := slices.Clone(title)
	for r.Len() > 0 {
		kind, part := r.Byte(), r.Bytes(int(r.U32()))
		if kind == 1 {
			inner := NewReader(part)
			count := int(inner.U32())
			extended := append(AppendUnsigned(nil, uint64(count+len(m.added))), inner.Rest()...)
			for i, name := range m.added {
				extended = AppendUnsigned(extended, uint64(len(m.Funcs)-len(m.added)+i))
				extended = AppendVector(extended, []byte(name))
			}
			part = extended
		}
		out = AppendVector(append(out, kind), part)
	}
	return out
}
