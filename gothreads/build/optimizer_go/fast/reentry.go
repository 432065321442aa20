package fast

import (
	"cmp"
	"slices"
	"strings"

	"optimizer/ir"
	"optimizer/wasm"
)

// A reentry is a body that a function which was preempted in a loop goes on in: it begins where the preemption check
// returns to. Nothing but SP is needed there: Go's compiler keeps no values in locals across calls.
//
// Without it, such a loop would go on in the old body until the function returns. The entrance of the old body leads to
// it, as it leads to the fast body for PC_B = 0.
type reentry struct {
	pc    int // PC_B
	pop   int // what a return adds to SP
	begin *ir.Block
	body  int // the index of the function that has it
}

const (
	// mostReentries is how many a function has at most: those of the innermost loops. A loop around them that is
	// preempted itself goes on in the old body; its inner loops return to fast code when they are preempted.
	mostReentries = 2
	// mostReentered limits how many blocks a function may have for each reentry to be worth its code.
	mostReentered = 200
)

// notPreempted are what the names of functions begin with that are not stopped in loops (preempt_gothreads.go).
var notPreempted = []string{"runtime.", "internal_runtime_", "reflect."}

// reentries returns the bodies for the preemption checks of a function. depth is what discipline found.
func reentries(f *ir.Func, depth map[*ir.Block]int, check map[int]bool) []*reentry {
	if len(f.Blocks) > mostReentered || slices.ContainsFunc(notPreempted, func(prefix string) bool { return strings.HasPrefix(f.Name, prefix) }) {
		return nil
	}
	var checks []*ir.Block
	for _, b := range f.Blocks {
		if n := len(b.Code) - 3; b.End.Kind == ir.If && n >= 0 && b.Code[n+2].Op == wasm.GoCall && check[int(b.Code[n+2].Arg)] &&
			b.Code[n].Op == wasm.I64Const && b.Code[n+1].Op == i64Store && unwinds(b.End.To[0]) {
			checks = append(checks, b)
		}
	}
	if len(checks) == 0 {
		return nil
	}
	loops := f.LoopDepth()
	slices.SortStableFunc(checks, func(a, b *ir.Block) int { return cmp.Compare(loops[b], loops[a]) })
	var found []*reentry
	for _, b := range checks[:min(len(checks), mostReentries)] {
		next := b.End.To[1]
		returnAddress := b.Code[len(b.Code)-3].Imm // PC_F << 16 + PC_B
		found = append(found, &reentry{pc: int(returnAddress & 0xffff), pop: 8 - depth[next], begin: next})
	}
	return found
}

const i64Store wasm.Op = 0x37
