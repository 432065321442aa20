//go:build wasip1

package runtime

import (
	"internal/abi"
	"internal/stringslite"
)

// Preemption of loops. The compiler (GOEXPERIMENT=preemptibleloops) puts a check on every loop's back edge, which calls
// goschedguarded when the goroutine is asked to stop. To the compiler that is a call like any other, but it is not an
// ordinary safe point: a range loop keeps the address of its next element as a uintptr across the back edge, and no
// stack map contains it. Native Go, which stops goroutines by signals, has the same problem, so its rules apply here:
//
//  1. A frame stopped by a check is scanned conservatively: whatever looks like a pointer counts as one (isLoopCheck).
//  2. Its stack is not moved meanwhile (asyncSafePoint).
//  3. The runtime and reflect are not stopped in their loops (loopSafePoint).
//  4. GODEBUG=asyncpreemptoff=1 turns preemption off, and so does gccheckmark=1, which conservative scanning confuses.

// isLoopCheck reports whether a frame is that of a check; its caller is the function with the loop.
func isLoopCheck(f funcInfo) bool {
	return f.entry() == abi.FuncPCABIInternal(goschedguarded)
}

// loopSafePoint reports whether the function that a check returns to may be stopped there (see isAsyncSafePoint).
func loopSafePoint(pc uintptr) bool {
	f := findfunc(pc)
	if !f.valid() || debug.asyncpreemptoff != 0 {
		return false
	}
	// The name of the linked function, not of an inlined one: unlike a signal, a check always comes at the same place,
	// so a loop around one small function of reflect would never be stopped.
	name := funcname(f)
	if name == "runtime.memclrNoHeapPointersChunked" { // it checks for requests itself
		return true
	}
	return !stringslite.HasPrefix(name, "runtime.") && !stringslite.HasPrefix(name, "internal/runtime/") && !stringslite.HasPrefix(name, "reflect.")
}
