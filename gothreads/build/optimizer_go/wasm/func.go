package wasm

import "fmt"

// A ValType is the type of a value.
type ValType byte

// The types of values.
const (
	I32  ValType = 0x7f
	I64  ValType = 0x7e
	F32  ValType = 0x7d
	F64  ValType = 0x7c
	V128 ValType = 0x7b
)

func (t ValType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	}
	return fmt.Sprintf("type(%#x)", byte(t))
}

// Locals are the locals that a function declares, in runs of one type.
type Locals []LocalRun

// A LocalRun is a number of locals of one type.
type LocalRun struct {
	Count int
	Type  ValType
}

// maxLocals is what engines accept.
const maxLocals = 50000

// Body is a function's code, decoded. The last instruction is the end of the function.
type Body struct {
	Locals Locals
	Code   []Instr
	Lists  Lists
}

// DecodeBody decodes a function's code. It checks that blocks are nested, not types.
func DecodeBody(data []byte) (*Body, error) {
	r := NewReader(data)
	b := &Body{}
	total := 0
	for range r.Count() {
		run := LocalRun{int(r.U32()), ValType(r.Byte())}
		if total += run.Count; total > maxLocals {
			r.Fail("too many locals")
			break
		}
		b.Locals = append(b.Locals, run)
	}
	b.Code = make([]Instr, 0, r.Len()/2)
	depth := 1
	for depth > 0 && r.Err() == nil {
		in := r.instr(&b.Lists)
		if in.Op.Opens() {
			depth++
		} else if in.Op == OpEnd {
			depth--
		}
		b.Code = append(b.Code, in)
	}
	if r.Len() != 0 {
		r.Fail("code after the function's end")
	}
	return b, r.Err()
}

// InsertCode returns a function's code, as it is written, with more code at its beginning.
func InsertCode(data []byte, code []Instr) ([]byte, error) {
	r := NewReader(data)
	for range r.Count() {
		r.U32()
		r.Byte()
	}
	if r.Err() != nil {
		return nil, r.Err()
	}
	out := append(make([]byte, 0, len(data)+4*len(code)), data[:r.At()]...)
	for _, in := range code {
		out = in.Append(out, nil)
	}
	return append(out, r.Rest()...), nil
}

// BrTable returns a br_table of this body with these labels, the default last.
func (b *Body) BrTable(labels []uint32) Instr { return Instr{Op: BrTable, Imm: b.Lists.add(labels)} }

// Labels returns the labels of a br_table.
func (b *Body) Labels(in Instr) []uint32 { return b.Lists[in.Imm] }

// Encode returns the function's code as it is written.
func (b *Body) Encode() []byte {
	out := AppendUnsigned(make([]byte, 0, 3*len(b.Code)), uint64(len(b.Locals)))
	for _, run := range b.Locals {
		out = append(AppendUnsigned(out, uint64(run.Count)), byte(run.Type))
	}
	for _, in := range b.Code {
		out = in.Append(out, b.Lists)
	}
	return out
}

// Types returns the type of each local, parameters first.
func (l Locals) Types(params []ValType) []ValType {
	types := append([]ValType(nil), params...)
	for _, run := range l {
		for range run.Count {
			types = append(types, run.Type)
		}
	}
	return types
}
