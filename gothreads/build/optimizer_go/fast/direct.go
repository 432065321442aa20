package fast

import (
	"errors"

	"optimizer/ir"
	"optimizer/wasm"
)

// The locals of a function of Go's: where to resume (the parameter, PC_B), and the stack pointer.
const (
	localPC = 0
	localSP = 1
	// globalSP is the global with the stack pointer.
	globalSP = 0
)

// direct makes a function begin at its beginning, and its jumps lead to their targets: what chose among them, the
// table, is then not reached.
//
// Go's compiler makes a jump of: PC_B = number; branch to the table, which leads to the block with that number.
func direct(f *ir.Func) error {
	first, err := begin(f)
	if err != nil {
		return err
	}
	if n := len(first.Code) - 1; first.End.Kind == ir.Switch && n >= 0 && first.Code[n].Is(wasm.LocalGet, localPC) {
		first.Code = first.Code[:n]
		first.Goto(first.End.To[0])
	} else if first.End.Kind == ir.Jump && isTable(first.End.To[0]) {
		table := first.End.To[0]
		for _, b := range f.Blocks {
			if err := redirect(b, table, b == first); err != nil {
				return err
			}
		}
	}
	f.Simplify()
	return nil
}

// begin returns the block in which a function of Go's begins, without the instructions that read SP.
func begin(f *ir.Func) (*ir.Block, error) {
	if len(f.Locals) == 0 || f.Locals[0].Type != wasm.I32 {
		return nil, errNotGo
	}
	first := f.Blocks[0].End.To[0] // the entry only jumps
	if len(first.Code) < 2 || !first.Code[0].Is(wasm.GlobalGet, globalSP) || !first.Code[1].Is(wasm.LocalSet, localSP) {
		return nil, errNotGo
	}
	for _, b := range f.Blocks[1:] {
		for _, to := range b.End.To {
			if to == first {
				return nil, errNotGo
			}
		}
	}
	first.Code = first.Code[2:]
	return first, nil
}

var errNotGo = errors.New("not a function that Go's compiler made")

// isTable reports whether a block only leads to the block whose number PC_B is.
func isTable(b *ir.Block) bool {
	return b.End.Kind == ir.Switch && len(b.Code) == 1 && b.Code[0].Is(wasm.LocalGet, localPC)
}

// redirect makes a block that leads to the table lead to where the table leads. A function that begins has PC_B = 0.
func redirect(b, table *ir.Block, first bool) error {
	for _, to := range b.End.To {
		if to != table {
			continue
		}
		n := len(b.Code) - 2
		switch {
		case b.End.Kind != ir.Jump:
			return errors.New("a condition leads to the table")
		case n >= 0 && b.Code[n].Op == wasm.I32Const && b.Code[n+1].Is(wasm.LocalSet, localPC):
			b.Goto(table.End.To[min(uint64(uint32(b.Code[n].Imm)), uint64(len(table.End.To)-1))])
			b.Code = b.Code[:n]
		case first:
			b.Goto(table.End.To[0])
		default:
			return errors.New("a jump to the table without a number")
		}
	}
	return nil
}
