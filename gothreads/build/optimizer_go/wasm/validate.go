package wasm

import (
	"fmt"
	"slices"
)

// Effect returns the types that an instruction pops and pushes. It is an error for instructions whose types are not
// known here, and for those that depend on the types on the stack (drop, select) or end a block.
func (m *Module) Effect(in Instr, locals []ValType) (pops, pushes []ValType, err error) {
	switch in.Op {
	case LocalGet, LocalSet, LocalTee:
		if int(in.Arg) >= len(locals) {
			return nil, nil, fmt.Errorf("%s: no such local", in)
		}
		t := locals[in.Arg : in.Arg+1]
		switch in.Op {
		case LocalGet:
			return nil, t, nil
		case LocalSet:
			return t, nil, nil
		}
		return t, t, nil
	case GlobalGet, GlobalSet:
		if int(in.Arg) >= len(m.Globals) {
			return nil, nil, fmt.Errorf("%s: no such global", in)
		}
		g := m.Globals[in.Arg]
		if in.Op == GlobalGet {
			return nil, []ValType{g.Type}, nil
		}
		if !g.Mutable {
			return nil, nil, fmt.Errorf("%s: it is constant", in)
		}
		return []ValType{g.Type}, nil, nil
	case Call:
		if int(in.Arg) >= len(m.Funcs) {
			return nil, nil, fmt.Errorf("%s: no such function", in)
		}
		t := m.Type(int(in.Arg))
		return t.Params, t.Results, nil
	case CallIndirect:
		if int(in.Arg) >= len(m.Types) || int(in.Imm) >= m.Tables {
			return nil, nil, fmt.Errorf("%s: no such type or table", in)
		}
		t := m.Types[in.Arg]
		return append(slices.Clone(t.Params), I32), t.Results, nil
	}
	if effect, ok := effects[in.Op]; ok {
		return effect.pops, effect.pushes, nil
	}
	return nil, nil, fmt.Errorf("the types of %s are not known", in)
}

type effect struct{ pops, pushes []ValType }

// effects has the instructions that have a signature.
var effects = func() map[Op]effect {
	found := map[Op]effect{}
	for op, info := range ops {
		if info.signature == "" {
			continue
		}
		var e effect
		side := &e.pops
		for _, c := range info.signature {
			if c == ':' {
				side = &e.pushes
				continue
			}
			*side = append(*side, map[rune]ValType{'i': I32, 'I': I64, 'f': F32, 'F': F64, 'v': V128}[c])
		}
		found[op] = e
	}
	return found
}()

// bottom is the type of a value that code which is never reached pops.
const bottom ValType = 0

// A frame is a block that is open.
type frame struct {
	op          Op
	results     []ValType
	height      int
	unreachable bool
}

// labelTypes returns what a branch to the frame's label takes along.
func (f *frame) labelTypes() []ValType {
	if f.op == OpLoop {
		return nil
	}
	return f.results
}

type validator struct {
	m      *Module
	lists  Lists
	locals []ValType
	stack  []ValType
	frames []frame
	err    error
}

// Validate checks the code of a function by the rules of WebAssembly's specification (its appendix has the algorithm).
// It does not check alignments and features that an engine may lack.
func (m *Module) Validate(t FuncType, b *Body) error {
	v := validator{m: m, lists: b.Lists, locals: b.Locals.Types(t.Params)}
	v.frames = []frame{{op: OpBlock, results: t.Results}}
	for i, in := range b.Code {
		if len(v.frames) == 0 {
			return fmt.Errorf("instruction %d: %s: after the function's end", i, in)
		}
		v.instr(in)
		if v.err != nil {
			return fmt.Errorf("instruction %d: %s: %w", i, in, v.err)
		}
	}
	if len(v.frames) != 0 {
		return fmt.Errorf("%d blocks have no end", len(v.frames))
	}
	return nil
}

func (v *validator) fail(format string, args ...any) {
	if v.err == nil {
		v.err = fmt.Errorf(format, args...)
	}
}

func (v *validator) pop() ValType {
	top := &v.frames[len(v.frames)-1]
	if len(v.stack) == top.height {
		if !top.unreachable {
			v.fail("a value is missing")
		}
		return bottom
	}
	t := v.stack[len(v.stack)-1]
	v.stack = v.stack[:len(v.stack)-1]
	return t
}

func (v *validator) expect(types ...ValType) {
	for _, want := range slices.Backward(types) {
		if got := v.pop(); got != want && got != bottom && want != bottom {
			v.fail("%s where there should be %s", got, want)
		}
	}
}

func (v *validator) push(types ...ValType) { v.stack = append(v.stack, types...) }

func (v *validator) open(op Op, results []ValType) {
	v.frames = append(v.frames, frame{op: op, results: results, height: len(v.stack)})
}

func (v *validator) close() frame {
	top := v.frames[len(v.frames)-1]
	v.expect(top.results...)
	if len(v.stack) != top.height {
		v.fail("%d values are left", len(v.stack)-top.height)
	}
	v.frames = v.frames[:len(v.frames)-1]
	return top
}

func (v *validator) stop() {
	top := &v.frames[len(v.frames)-1]
	v.stack = v.stack[:top.height]
	top.unreachable = true
}

func (v *validator) label(n uint32) []ValType {
	if int(n) >= len(v.frames) {
		v.fail("no block has label %d", n)
		return nil
	}
	return v.frames[len(v.frames)-1-int(n)].labelTypes()
}

func (v *validator) instr(in Instr) {
	switch in.Op {
	case Unreachable:
		v.stop()
	case OpBlock, OpLoop, OpIf:
		if in.Op == OpIf {
			v.expect(I32)
		}
		v.open(in.Op, in.Results())
	case OpElse:
		if top := v.close(); top.op != OpIf {
			v.fail("no if before it")
		} else {
			v.open(OpElse, top.results)
		}
	case OpEnd:
		top := v.close()
		if top.op == OpIf && len(top.results) > 0 {
			v.fail("an if with results has no else")
		}
		v.push(top.results...)
	case Br:
		v.expect(v.label(in.Arg)...)
		v.stop()
	case BrIf:
		v.expect(I32)
		types := v.label(in.Arg)
		v.expect(types...)
		v.push(types...)
	case BrTable:
		v.expect(I32)
		labels := v.lists[in.Imm]
		types := v.label(labels[len(labels)-1])
		for _, n := range labels {
			if !slices.Equal(v.label(n), types) {
				v.fail("labels of different types")
			}
		}
		v.expect(types...)
		v.stop()
	case Return:
		v.expect(v.frames[0].results...)
		v.stop()
	case Drop:
		v.pop()
	case Select:
		v.expect(I32)
		a, b := v.pop(), v.pop()
		if a != b && a != bottom && b != bottom {
			v.fail("%s and %s", a, b)
		}
		v.push(max(a, b))
	default:
		pops, pushes, err := v.m.Effect(in, v.locals)
		if err != nil {
			v.fail("%w", err)
			return
		}
		v.expect(pops...)
		v.push(pushes...)
	}
}

// Results returns the results of the block that an instruction begins.
func (in Instr) Results() []ValType {
	if in.HasNoType() {
		return nil
	}
	return []ValType{ValType(in.Arg)}
}
