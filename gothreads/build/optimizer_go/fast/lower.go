package fast

import (
	"optimizer/ir"
	"optimizer/wasm"
)

// A lowerer replaces the instructions for calls by WebAssembly's. In a fast body, the stack pointer is local 0, the
// parameter, and local 1 is free.
type lowerer struct {
	bodies map[int]int // function -> its fast body
	goType int
	table  int // of fast bodies
}

const (
	fastSP  = 0
	scratch = 1
)

var (
	getSP    = wasm.With(wasm.LocalGet, fastSP)
	globally = []wasm.Instr{getSP, wasm.With(wasm.GlobalSet, globalSP)}
	// popped pushes SP after a return, which pops the return address.
	popped = []wasm.Instr{getSP, wasm.Const(8), {Op: wasm.I32Add}}
	// moved pushes 1 when the global SP is not what it should be after a return.
	movedOr = []wasm.Instr{wasm.With(wasm.LocalTee, fastSP), {Op: wasm.I32Ne}, {Op: wasm.I32Or}}
)

func (l *lowerer) block(b *ir.Block) {
	out := make([]wasm.Instr, 0, len(b.Code)+len(b.Code)/2)
	for _, in := range b.Code {
		switch in.Op {
		case wasm.LocalGet, wasm.LocalSet, wasm.LocalTee:
			if in.Arg == localSP {
				in.Arg = fastSP
			}
			out = append(out, in)
		case wasm.GoCall:
			if body, ok := l.bodies[int(in.Arg)]; ok {
				out = append(out, getSP, wasm.With(wasm.Call, body))
				out = append(append(out, popped...), wasm.With(wasm.LocalSet, fastSP))
				continue
			}
			// The callee may return 0 after the stack has moved: a call of the host from which Go was called again,
			// and grew the stack; or a part of the runtime that ran on another stack, and shrank this one. Then what
			// is above knows only the old address: leave, as if the callee had unwound.
			out = append(append(out, globally...), wasm.Const(0), wasm.With(wasm.Call, int(in.Arg)))
			out = append(append(append(out, wasm.With(wasm.GlobalGet, globalSP)), popped...), movedOr...)
		case wasm.GoCallIndirect:
			out = append(out, wasm.With(wasm.LocalSet, scratch), getSP, wasm.With(wasm.LocalGet, scratch))
			if in.Imm != 0 {
				out = append(out, wasm.Const(int32(in.Imm)), wasm.Instr{Op: wasm.I32Sub})
			}
			out = append(out, wasm.Instr{Op: wasm.CallIndirect, Arg: uint32(l.goType), Imm: uint64(l.table)})
			out = append(append(out, popped...), wasm.With(wasm.LocalSet, fastSP))
		case wasm.GoEnter:
			out = append(append(out, globally...), wasm.With(wasm.Call, int(in.Arg)))
			out = append(out, wasm.With(wasm.GlobalGet, globalSP), getSP, wasm.Instr{Op: wasm.I32Ne})
			out = append(out, wasm.Open(wasm.OpIf), wasm.Instr{Op: wasm.Unreachable}, wasm.Instr{Op: wasm.OpEnd})
		case wasm.GoLeave:
			out = append(append(out, globally...), wasm.Const(0), wasm.With(wasm.Call, int(in.Arg)), wasm.Instr{Op: wasm.Drop})
		default:
			out = append(out, in)
		}
	}
	b.Code = out
}

// adapter returns a fast body for a function that has none: it calls the function itself.
func adapter(function int) *wasm.Body {
	code := append(append([]wasm.Instr{}, globally...), wasm.Const(0), wasm.With(wasm.Call, function))
	code = append(append(append(code, wasm.With(wasm.GlobalGet, globalSP)), popped...), movedOr...)
	return &wasm.Body{Code: append(code, wasm.Instr{Op: wasm.OpEnd})}
}

// entrance returns what an old body begins with: from its beginning on, the fast body does the work; and from some other
// points, a body for these.
func entrance(body int, reentries []*reentry) []wasm.Instr {
	code := append([]wasm.Instr{wasm.With(wasm.LocalGet, localPC), {Op: wasm.I32Eqz}}, enter(body, 8)...)
	for _, r := range reentries {
		code = append(code, wasm.With(wasm.LocalGet, localPC), wasm.Const(int32(r.pc)), wasm.Instr{Op: wasm.I32Eq})
		code = append(code, enter(r.body, r.pop)...)
	}
	return code
}

// enter returns code that, if there is not 0 on the stack, calls a body and returns what that does. pop is what a return
// adds to SP.
func enter(body, pop int) []wasm.Instr {
	end, leave := wasm.Instr{Op: wasm.OpEnd}, wasm.Instr{Op: wasm.Return}
	return []wasm.Instr{
		wasm.Open(wasm.OpIf),
		wasm.With(wasm.GlobalGet, globalSP), wasm.With(wasm.LocalTee, localSP), wasm.With(wasm.Call, body),
		wasm.Open(wasm.OpIf), wasm.Const(1), leave, end,
		wasm.With(wasm.LocalGet, localSP), wasm.Const(int32(pop)), {Op: wasm.I32Add}, wasm.With(wasm.GlobalSet, globalSP),
		wasm.Const(0), leave, end,
	}
}
