package fast

import (
	"errors"
	"fmt"

	"optimizer/ir"
	"optimizer/wasm"
)

// A lifter replaces how Go's compiler calls by instructions that say what is called, and checks that a function keeps
// to Go's convention.
type lifter struct {
	m     *wasm.Module
	goFn  wasm.FuncType
	pure  map[int]bool      // functions that neither use Go's stack nor call such
	tails []int             // functions that this one calls instead of returning
	depth map[*ir.Block]int // SP at the beginning of a block, less SP at that of the function
}

// reload is what follows each call: SP is read again, as the stack may have moved.
func isReload(code []wasm.Instr) bool {
	return len(code) >= 2 && code[0].Is(wasm.GlobalGet, globalSP) && code[1].Is(wasm.LocalSet, localSP)
}

// calls replaces the calls of a block, and writes to the global SP.
func (l *lifter) calls(b *ir.Block) error {
	out := b.Code[:0] // what is written takes the place of what has been read
	for code := b.Code; len(code) > 0; {
		in, used, err := l.one(code)
		if err != nil {
			return err
		}
		out = append(out, in)
		code = code[used:]
	}
	b.Code = out
	return nil
}

// one returns what replaces the beginning of code, and how many instructions that are.
func (l *lifter) one(code []wasm.Instr) (in wasm.Instr, used int, err error) {
	in = code[0]
	switch {
	case in.IsConst(0) && len(code) > 1 && code[1].Op == wasm.Call && l.isGo(int(code[1].Arg)) && isReload(code[2:]):
		return wasm.With(wasm.GoCall, int(code[1].Arg)), 4, nil
	case in.Is(wasm.LocalSet, localPC):
		return l.indirect(code)
	case in.Is(wasm.LocalTee, localSP) && len(code) > 1 && code[1].Is(wasm.GlobalSet, globalSP):
		return wasm.With(wasm.LocalSet, localSP), 2, nil
	case in.Op == wasm.Call:
		function := int(in.Arg)
		switch {
		case function < l.m.Imported:
			return in, 0, errors.New("calls the host")
		case l.isGo(function) || !isReload(code[1:]):
			return in, 0, errors.New("calls in an unknown way")
		case l.pure[function]:
			return in, 3, nil
		}
		return wasm.With(wasm.GoEnter, function), 3, nil
	case in.Op == wasm.CallIndirect:
		return in, 0, errors.New("calls a pointer in an unknown way")
	case in.Is(wasm.GlobalGet, globalSP) || in.Is(wasm.GlobalSet, globalSP):
		return in, 0, errors.New("uses SP in an unknown way")
	case in.Is(wasm.LocalGet, localPC) || in.Is(wasm.LocalTee, localPC):
		return in, 0, errors.New("uses PC_B in an unknown way")
	}
	return in, 1, nil
}

func (l *lifter) isGo(function int) bool {
	return function >= l.m.Imported && function < len(l.m.Funcs) && l.m.Type(function).Equal(l.goFn)
}

// indirect returns the call of a pointer that code begins with. The function's number, which is on the stack, is kept in
// PC_B's local while a 0 is pushed below it, and perhaps lowered by a constant.
func (l *lifter) indirect(code []wasm.Instr) (in wasm.Instr, used int, err error) {
	unknown := errors.New("sets PC_B in an unknown way")
	if len(code) < 6 || !code[1].IsConst(0) || !code[2].Is(wasm.LocalGet, localPC) {
		return code[0], 0, unknown
	}
	at, lowered := 3, uint64(0)
	if code[3].Op == wasm.I32Const && code[4].Op == wasm.I32Sub {
		at, lowered = 5, code[3].Imm
	}
	call := code[at]
	if call.Op != wasm.CallIndirect || call.Imm != 0 || !l.m.Types[call.Arg].Equal(l.goFn) || !isReload(code[at+1:]) {
		return code[0], 0, unknown
	}
	return wasm.Instr{Op: wasm.GoCallIndirect, Imm: lowered}, at + 3, nil
}

func isGoCall(in wasm.Instr) bool { return in.Op == wasm.GoCall || in.Op == wasm.GoCallIndirect }

// endsInCall reports whether the last instruction of a block is a call of Go's.
func endsInCall(b *ir.Block) bool { return len(b.Code) > 0 && isGoCall(b.Code[len(b.Code)-1]) }

// unwinds reports whether a block only returns 1.
func unwinds(b *ir.Block) bool {
	return b.End.Kind == ir.Return && len(b.Code) == 1 && b.Code[0].IsConst(1)
}

// traps reports whether a block only traps.
func traps(b *ir.Block) bool { return b.End.Kind == ir.Trap && len(b.Code) == 0 }

// discipline checks that SP only changes by constants and calls, that it is the same on all ways to a block, and that
// the function has popped its frame and its return address, but no more, when it returns 0; and that it returns 1 only
// after a call did.
func (l *lifter) discipline(f *ir.Func) error {
	depth := map[*ir.Block]int{f.Blocks[0]: 0}
	l.depth = depth
	for work := []*ir.Block{f.Blocks[0]}; len(work) > 0; {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		sp, before, err := l.moves(b, depth[b])
		if err == nil {
			err = l.end(b, sp, before)
		}
		if err != nil {
			return fmt.Errorf("b%d: %w", b.ID, err)
		}
		for _, to := range b.End.To {
			if unwinds(to) || traps(to) {
				continue
			}
			if known, ok := depth[to]; !ok {
				depth[to] = sp
				work = append(work, to)
			} else if known != sp {
				return fmt.Errorf("b%d: SP differs between two ways to it", to.ID)
			}
		}
	}
	return nil
}

// moves returns SP at the end of a block, and before its last instruction.
func (l *lifter) moves(b *ir.Block, sp int) (after, before int, err error) {
	nested := 0
	for i := 0; i < len(b.Code); i++ {
		in := b.Code[i]
		before = sp
		switch {
		case in.Op.Opens():
			nested++
		case in.Op == wasm.OpEnd:
			nested--
		case in.Is(wasm.LocalTee, localSP) || in.Is(wasm.LocalSet, localSP):
			if i < 3 || nested > 0 || !b.Code[i-3].Is(wasm.LocalGet, localSP) || b.Code[i-2].Op != wasm.I32Const || in.Op != wasm.LocalSet {
				return 0, 0, errors.New("sets SP in an unknown way")
			}
			switch by := int(int32(b.Code[i-2].Imm)); b.Code[i-1].Op {
			case wasm.I32Add:
				sp += by
			case wasm.I32Sub:
				sp -= by
			default:
				return 0, 0, errors.New("sets SP in an unknown way")
			}
		case isGoCall(in):
			sp += 8
			last := i == len(b.Code)-1
			if nested > 0 || last && b.End.Kind != ir.If && b.End.Kind != ir.Return || !last && b.Code[i+1].Op != wasm.Drop {
				return 0, 0, errors.New("uses what a call returns in an unknown way")
			}
		}
	}
	return sp, before, nil
}

// end checks how a block ends, with this SP, which was `before` before the last instruction.
func (l *lifter) end(b *ir.Block, sp, before int) error {
	called := endsInCall(b)
	for i, to := range b.End.To {
		if unwinds(to) && !(called && b.End.Kind == ir.If && i == 0) {
			return errors.New("returns 1 without a call that did")
		}
	}
	switch {
	case called && b.End.Kind == ir.If:
		if then := b.End.To[0]; !unwinds(then) && !traps(then) {
			return errors.New("goes on after a call that returned 1")
		}
	case called: // returns what the call returned
		call := b.Code[len(b.Code)-1]
		if call.Op != wasm.GoCall || before != 0 {
			return errors.New("calls in place of returning in an unknown way")
		}
		l.tails = append(l.tails, int(call.Arg))
	case b.End.Kind == ir.Return:
		if n := len(b.Code); n == 0 || !b.Code[n-1].IsConst(0) || sp != 8 {
			return errors.New("returns in an unknown way")
		}
	}
	return nil
}

// checkDropped makes the function trap where it ignores what a call returns and that is not 0.
func checkDropped(b *ir.Block) {
	var out []wasm.Instr
	for i, in := range b.Code {
		if in.Op == wasm.Drop && i > 0 && isGoCall(b.Code[i-1]) {
			out = append(out, wasm.Open(wasm.OpIf), wasm.Instr{Op: wasm.Unreachable}, wasm.Instr{Op: wasm.OpEnd})
		} else {
			out = append(out, in)
		}
	}
	b.Code = out
}
