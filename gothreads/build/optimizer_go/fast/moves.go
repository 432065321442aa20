package fast

import (
	"optimizer/ir"
	"optimizer/wasm"
)

// mostMoved is how many bytes are copied or cleared by loads and stores at most. For memory.copy and memory.fill an
// engine calls a function, which takes as long as some twenty of them.
// Without vectors, twice as many are needed.
const mostMoved, mostCopiedByWords = 128, 40

// A mover puts loads and stores in place of memory.copy and memory.fill of a few bytes, of a number that the compiler
// knew: values of Go's. Two of these are the same or do not overlap, as Go's compiler copies them piece by piece, too.
type mover struct {
	f        *ir.Func
	baseline bool
	locals   map[wasm.ValType][2]int
}

// two returns two locals of a type, for to and from.
func (m *mover) two(t wasm.ValType) [2]int {
	if _, ok := m.locals[t]; !ok {
		m.locals[t] = [2]int{m.f.NewLocal(t), m.f.NewLocal(t)}
	}
	return m.locals[t]
}

func (m *mover) block(b *ir.Block) {
	var out []wasm.Instr
	from := 0 // what is not in out yet
	for i, in := range b.Code {
		if in.Op != wasm.MemoryCopy && in.Op != wasm.MemoryFill || i == 0 || b.Code[i-1].Op != wasm.I32Const {
			continue
		}
		size := int(int32(b.Code[i-1].Imm))
		if size < 8 || size > mostMoved || in.Imm != 0 || in.Arg != 0 {
			continue
		}
		if in.Op == wasm.MemoryCopy {
			if m.baseline && size > mostCopiedByWords {
				continue
			}
			out = append(out, b.Code[from:i-1]...)
			out = append(out, m.copy(size)...)
		} else if i > 1 && b.Code[i-2].IsConst(0) {
			out = append(out, b.Code[from:i-2]...)
			out = append(out, m.clear(size)...)
		} else {
			continue
		}
		from = i + 1
	}
	if from > 0 {
		b.Code = append(out, b.Code[from:]...)
	}
}

// pieces calls do for each piece of some bytes, with its offset: the last ones may overlap.
func (m *mover) pieces(size int, do func(wide bool, offset int)) {
	at := 0
	for ; !m.baseline && size-at >= 16; at += 16 {
		do(true, at)
	}
	for ; size-at >= 8; at += 8 {
		do(false, at)
	}
	if at < size {
		do(false, size-8)
	}
}

func (m *mover) copy(size int) []wasm.Instr {
	places := m.two(wasm.I32)
	to, from := places[0], places[1]
	code := []wasm.Instr{wasm.With(wasm.LocalSet, from), wasm.With(wasm.LocalSet, to)}
	m.pieces(size, func(wide bool, offset int) {
		load, store := i64Load, i64Store
		if wide {
			load, store = wasm.V128Load, wasm.V128Store
		}
		code = append(code, wasm.With(wasm.LocalGet, to), wasm.With(wasm.LocalGet, from),
			wasm.Instr{Op: load, Imm: uint64(offset)}, wasm.Instr{Op: store, Imm: uint64(offset)})
	})
	return code
}

func (m *mover) clear(size int) []wasm.Instr {
	to := m.two(wasm.I32)[0]
	code := []wasm.Instr{wasm.With(wasm.LocalSet, to)}
	m.pieces(size, func(wide bool, offset int) {
		code = append(code, wasm.With(wasm.LocalGet, to))
		if wide {
			code = append(code, wasm.Const(0), wasm.Instr{Op: wasm.I8x16Splat}, wasm.Instr{Op: wasm.V128Store, Imm: uint64(offset)})
		} else {
			code = append(code, wasm.Instr{Op: wasm.I64Const}, wasm.Instr{Op: i64Store, Imm: uint64(offset)})
		}
	})
	return code
}
