//go:build wasip1

package runtime

import (
	"internal/abi"
	"internal/goarch"
	"internal/runtime/sys"
	"unsafe"
)

// Calls into Go from threads that Go did not start, in the manner of cgocallback: a host instance takes an extra M
// once and keeps it (attach), and rests in a system call between calls (enter, leave), so that neither the
// garbage collector nor the scheduler ever waits for it.
//
// Only code that gothreads adds to the module calls the exports here. All are nosplit: they run while the goroutine
// is in a system call, or on a stack that is not a Go stack.

// restFrame is the distance from the top of the stack of the frame that tracebacks see while a caller rests. The
// frame is goexit's, where oneNewExtraM puts it. Its address is always computed from stack.hi, because stacks move.
const restFrame = 4 * goarch.PtrSize

// taken is the extra M between take and attach. The host lets only one thread at a time run the two.
var taken struct {
	m    *m
	last bool
}

// gtTake removes an extra M from the list, waiting for one if there is none, and returns its g0, so that gtAttach can
// run on that g0's own stack. gtTake itself runs on a small bootstrap stack, without a g.
//
//go:wasmexport gt_take
//go:nosplit
//go:nowritebarrierrec
func gtTake() uint32 {
	mp, last := getExtraM()
	// No write barrier: the M stays in allm for good, and there is no P here to record the write.
	*(*uintptr)(unsafe.Pointer(&taken.m)) = uintptr(unsafe.Pointer(mp))
	taken.last = last
	return uint32(uintptr(unsafe.Pointer(mp.g0)))
}

// takenM takes the place of getExtraM in needm.
//
//go:nosplit
func takenM() (mp *m, last bool) { return taken.m, taken.last }

// gtAttach gives the taken M to this instance, and returns its goroutine. It runs on g0.
//
//go:wasmexport gt_attach
//go:nosplit
func gtAttach() uint32 {
	needm(false)
	mp := getg().m
	g0 := mp.g0
	g0.sched.sp = g0.stack.hi - 64
	g0.stackguard0 = g0.stack.lo + stackGuard
	g0.stackguard1 = g0.stackguard0
	gp := mp.curg
	// The return address below the rest frame: for tracebacks, the caller of the export.
	*(*uintptr)(unsafe.Pointer(gp.stack.hi - restFrame - goarch.PtrSize)) = abi.FuncPCABI0(goexit) + sys.PCQuantum
	return uint32(uintptr(unsafe.Pointer(gp)))
}

// gtEnter ends the rest and returns 1. It returns 0 when the goroutine was running already: the call is nested in
// another one, and there is nothing to undo.
//
//go:wasmexport gt_enter
//go:nosplit
func gtEnter() uint32 {
	gp := getg()
	if gp.syscallsp == 0 {
		return 0
	}
	gp.m.stackBase = gp.stack.hi
	exitsyscall()
	mp := gp.m
	mp.incgo = false
	mp.isExtraInC = false
	if mp.needextram || extraMWaiters.Load() > 0 {
		mp.needextram = false
		systemstack(newextram)
	}
	return 1
}

// gtLeave begins the rest again.
//
//go:wasmexport gt_leave
//go:nosplit
func gtLeave() {
	gp := getg()
	gp.m.incgo = true
	gp.m.isExtraInC = true
	reentersyscall(abi.FuncPCABI0(goexit)+sys.PCQuantum, gp.stack.hi-restFrame, 0)
}

// gtG0 returns the g0 of the attached M, on whose stack gtDetach runs.
//
//go:wasmexport gt_g0
//go:nosplit
func gtG0() uint32 { return uint32(uintptr(unsafe.Pointer(getg().m.g0))) }

// gtDetach returns the M to the list of extra Ms. It runs on g0.
//
//go:wasmexport gt_detach
//go:nosplit
//go:nowritebarrierrec
func gtDetach() { dropm() }

// gtImportEnter puts the goroutine into a system call around a host call that may block. The wrapper of the host call
// calls it. The wrapper has no frame and no stack map, so the system call counts as its caller's: SP points at the
// caller's return address, and the caller's frame begins 8 bytes above.
//
//go:nosplit
func gtImportEnter() {
	sp := sys.GetCallerSP()
	reentersyscall(*(*uintptr)(unsafe.Pointer(sp)), sp+goarch.PtrSize, 0)
}

// gtKeepImportEnter makes the linker keep gtImportEnter, which only code that gothreads adds later calls.
//
//go:wasmexport gt_import_enter
//go:nosplit
func gtKeepImportEnter() { gtImportEnter() }
