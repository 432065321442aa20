//go:build wasip1

package runtime

// Recursion. Each Go call is a WebAssembly call, so a goroutine uses two stacks: Go's own, which grows up to
// maxstacksize, and the host thread's, which has a fixed size of some megabytes. The contents of the thread's stack are
// dispensable: every frame is on Go's stack, too, and a goroutine that is switched resumes with an empty WebAssembly
// stack (wasm_pc_f_loop calls its function, and then the callers, one after the other). So a goroutine that has used
// stackWindow bytes of its Go stack since then is sent through newstack, as when its stack is full, and resumes with an
// empty WebAssembly stack. Only Go's own limit ends recursion, always at the same depth.
//
// Invariant: while a goroutine runs, stackguard0 is not below windowGuard, so the thread's stack holds the frames of at
// most stackWindow bytes (and of one large frame) of Go's stack. stackBase is the SP at which it was last empty:
//
//  1. rebase sets stackBase and the guard whenever wasm_pc_f_loop calls a function: after each switch, each growth, and
//     each return to a frame that is not on the thread's stack. (Without the last, a goroutine that has returned from a
//     great depth could descend again with the low guard of that depth.)
//  2. gtEnter sets stackBase where a call begins.
//  3. exitsyscall, which resumes in the middle, computes the guard from stackBase. All other code that sets the guard
//     switches afterwards.

// stackWindow is 1/48 of the thread's stack that WebAssembly has by default: frames there are mostly two to six times
// as large as on Go's stack.
const stackWindow = 128 << 10

// windowGuard returns the guard of a goroutine that runs on this M.
//
//go:nosplit
func windowGuard(gp *g) uintptr {
	guard := gp.stack.lo + stackGuard
	if base := gp.m.stackBase; base <= gp.stack.hi && base > guard+stackWindow {
		return base - stackWindow
	}
	return guard
}

// hasRoom reports whether the function that called newstack fits the stack without growth: only its window was full.
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

// rebase is called only by assembly.
func rebase()
