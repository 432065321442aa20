package fast

import (
	"optimizer/ir"
	"optimizer/wasm"
)

// Of a small innermost loop, several copies are put into one loop. The preemption check then runs once for all of them,
// and so does the check of the stop flag, which is put into each loop when a module is loaded.
const (
	mostCopies = 4
	// mostInstructions is how many all copies of a loop have at most.
	mostInstructions = 120
)

// unroll unrolls the function's small innermost loops.
func (o *optimizer) unroll(f *ir.Func) { f.Unroll(copies, o.dropCheck) }

// copies returns how many copies of a loop there are to be: one if it calls something, which takes longer than checks.
func copies(loop []*ir.Block) int {
	n := 0
	for _, b := range loop {
		for _, in := range b.Code {
			switch in.Op {
			case wasm.Call, wasm.CallIndirect, wasm.GoCall, wasm.GoCallIndirect, wasm.GoEnter, wasm.OpLoop:
				return 1
			}
		}
		n += len(b.Code)
	}
	if n == 0 { // it waits for the host to stop it
		return 1
	}
	return max(1, min(mostCopies, mostInstructions/n))
}

// dropCheck removes the preemption check at the end of a block of a copy. The first copy keeps its own.
func (o *optimizer) dropCheck(b *ir.Block) {
	if b.End.Kind != ir.If || !o.preempted(b.End.To[0]) {
		return
	}
	for _, check := range [][]wasm.Op{
		{wasm.LocalGet, i64ExtendI32U, wasm.LocalGet, i64LessU},
		{wasm.LocalGet, i64ExtendI32U, wasm.GlobalGet, i32WrapI64, i64Load, i64LessU},
	} {
		if b.EndsIn(check...) {
			b.Code = b.Code[:len(b.Code)-len(check)]
			b.Goto(b.End.To[1])
			return
		}
	}
}

// preempted reports whether a block leaves the function for its old body after a preemption check.
func (o *optimizer) preempted(b *ir.Block) bool {
	for _, in := range b.Code {
		if in.Op == wasm.GoLeave && o.check[int(in.Arg)] {
			return true
		}
	}
	return false
}

const (
	i64ExtendI32U wasm.Op = 0xad
	i64LessU      wasm.Op = 0x54
	i32WrapI64    wasm.Op = 0xa7
	i64Load       wasm.Op = 0x29
)
