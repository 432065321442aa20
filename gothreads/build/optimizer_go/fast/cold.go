package fast

import (
	"slices"

	"optimizer/ir"
	"optimizer/wasm"
)

// checkName is the function that a preemption check calls.
const checkName = "runtime.goschedguarded"

// coldNames are functions that never return to where they were called. What only calls these in the end is found by
// noReturn. morestack comes back to the beginning of the function.
//
// Go's compiler lets the code after such a call fall through into whatever comes next, so an edge that is never taken
// would lead there, often into the middle of a loop.
var coldNames = []string{
	"runtime.morestack", "runtime.morestack_noctxt", "runtime.gopanic", "runtime.throw", "runtime.fatal", "runtime.fatalthrow",
	"runtime.fatalpanic", "runtime.goexit1", "runtime.sigpanic", "runtime.panicmem", "runtime.panicdivide", "runtime.panicshift",
	"runtime.panicwrap", "runtime.panicdottypeE", "runtime.panicdottypeI", "runtime.panicnildottype",
}

// leaveCold makes the function leave for its old body after a call of one of these functions: so nothing has to be kept
// across it. That is right for every function, as the old body goes on if the call does return.
func leaveCold(b *ir.Block, cold map[int]bool) {
	if b.End.Kind != ir.If || !endsInCall(b) || !unwinds(b.End.To[0]) {
		return
	}
	if last := &b.Code[len(b.Code)-1]; last.Op == wasm.GoCall && cold[int(last.Arg)] {
		last.Op = wasm.GoLeave
		b.Goto(b.End.To[0])
	}
}

// noReturn adds the functions to cold that only return 1, given that those which are there do.
func (o *optimizer) noReturn(all []*lifted) {
	returns := make([]bool, len(all))
	for changed := true; changed; {
		o.work.Do(len(all), func(i int) {
			returns[i] = all[i] == nil || o.cold[all[i].f.Index] || o.canReturn(all[i].f)
		})
		changed = false
		for i, l := range all {
			if !returns[i] {
				o.cold[l.f.Index], changed = true, true
			}
		}
	}
}

// canReturn reports whether a function may return 0.
func (o *optimizer) canReturn(f *ir.Func) bool {
	seen := map[*ir.Block]bool{}
	for work := []*ir.Block{f.Blocks[0]}; len(work) > 0; {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		if seen[b] || unwinds(b) {
			continue
		}
		seen[b] = true
		if endsInCall(b) {
			if last := b.Code[len(b.Code)-1]; last.Op == wasm.GoCall && o.cold[int(last.Arg)] {
				continue
			}
		}
		if b.End.Kind == ir.Return {
			return true
		}
		work = append(work, b.End.To...)
	}
	return false
}

// named returns the function that has one of these names.
func named(m *wasm.Module, names ...string) map[int]bool {
	found := map[int]bool{}
	for function, name := range m.Names {
		if slices.Contains(names, name) {
			found[function] = true
		}
	}
	return found
}
