//go:build wasip1

package runtime

// Recursion. Each Go call is a WebAssembly call, so a goroutine uses two stacks: Go's own, which grows up to maxstacksize, and
// the host thread's, which is some megabytes and does not. What is on the thread's stack is not needed: every frame is on Go's
// stack, too, and a goroutine that is switched goes on with an empty WebAssembly stack (wasm_pc_f_loop calls its function, and
// then the callers, one after the other). So a goroutine that has used stackWindow bytes of its stack since then is sent
// through newstack, as when its stack is full, and goes on with an empty one; and only Go's own limit ends recursion, at
// the same depth each time.
//
// Invariant: while a goroutine runs, stackguard0 is not below windowGuard, so the thread's stack holds the frames of at most
// stackWindow bytes (and of one large frame) of Go's stack. stackBase is where it was last empty:
//
//  1. rebase sets it, and the guard, whenever wasm_pc_f_loop calls a function: after each switch, growth, and return to a frame
//     that is not on the thread's stack. (Without the last, a goroutine that has come up from the depth could go down again
//     with the low guard of the depth.)
//  2. gtEnter sets it, where a call begins.
//  3. exitsyscall, which goes on in the middle, takes the guard from it. Everybody else that sets the guard switches afterwards.

// stackWindow is 1/48 of the thread's stack that WebAssembly has by default: frames there are mostly two to six times as large.
const stackWindow = 128 << 10

// windowGuard is the guard of a goroutine that runs on this M.
//
//go:nosplit
func windowGuard(gp *g) uintptr {
	guard := gp.stack.lo + stackGuard
	if base := gp.m.stackBase; base <= gp.stack.hi && base > guard+stackWindow {
		return base - stackWindow
	}
	return guard
}

// hasRoom says whether newstack need not let the stack grow for the function that has called it: only its window was full.
func hasRoom(gp *g) bool {
	f := findfunc(gp.sched.pc)
	if !f.valid() {
		return false
	}
	frame := uintptr(funcMaxSPDelta(f))
	if gp.sched.sp-gp.stack.lo < frame+stackGuard {
		return false
	}
	gp.m.largeFrame = frame
	return true
}

// rebase is called by assembly only.
func rebase()
