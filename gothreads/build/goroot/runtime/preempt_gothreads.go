//go:build wasip1

package runtime

import (
	"internal/abi"
	"internal/stringslite"
)

// Preemption of loops. The compiler (GOEXPERIMENT=preemptibleloops) puts a check on every loop's back edge, which calls
// goschedguarded when the goroutine is asked to stop. That is a call like any other to the compiler, but not a safe point
// like any other: a range loop keeps the address of its next element as a uintptr across the back edge, and no stack map
// has it. Native Go, which stops goroutines by signals, has the same there, and so are the rules here its own:
//
//  1. A frame that a check has stopped is scanned conservatively: whatever looks like a pointer is one (isLoopCheck).
//  2. Its stack is not moved meanwhile (asyncSafePoint).
//  3. The runtime and reflect are not stopped in their loops (loopSafePoint).
//  4. GODEBUG=asyncpreemptoff=1 turns it off, and so does gccheckmark=1, which conservative scanning confuses.

// isLoopCheck says whether a frame is a check's; its caller is the function with the loop.
func isLoopCheck(f funcInfo) bool {
	return f.entry() == abi.FuncPCABIInternal(goschedguarded)
}

// loopSafePoint says whether the function that a check returns to may be stopped there (see isAsyncSafePoint).
func loopSafePoint(pc uintptr) bool {
	f := findfunc(pc)
	if !f.valid() || debug.asyncpreemptoff != 0 {
		return false
	}
	// The function as it is linked, not what was inlined: unlike a signal, a check always comes at the same place, and a loop
	// around one small function of reflect's would never be stopped.
	name := funcname(f)
	if name == "runtime.memclrNoHeapPointersChunked" { // asks by itself
		return true
	}
	return !stringslite.HasPrefix(name, "runtime.") && !stringslite.HasPrefix(name, "internal/runtime/") && !stringslite.HasPrefix(name, "reflect.")
}
