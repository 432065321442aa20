//go:build wasip1

package runtime

import (
	"internal/abi"
	"internal/goarch"
	"internal/runtime/sys"
	"unsafe"
)

// Calls into Go from threads that Go did not start, as cgocallback does them: a host instance takes an extra M
// once and keeps it (attach), and rests in a system call between calls (enter, leave), so that neither the
// garbage collector nor the scheduler ever waits for it.
//
// The exports here are called only by code that gothreads adds to the module. All are nosplit: they run
// while the goroutine is in a system call, or on a stack that is not Go's.

// The frame that a resting caller shows to tracebacks is goexit's, at this distance from the top of the stack:
// the place where oneNewExtraM puts it. It is always computed from stack.hi because stacks move.
const restFrame = 4 * goarch.PtrSize

// taken is the extra M between take and attach. The host lets one thread at a time do the two.
var taken struct {
	m    *m
	last bool
}

// take gets an extra M off the list, waiting for one if there is none, and returns its g0, so that attach can
// run on that g0's own stack. It runs on a small bootstrap stack, without a g.
//
//go:wasmexport gt_take
//go:nosplit
//go:nowritebarrierrec
func gtTake() uint32 {
	mp, last := getExtraM()
	// No write barrier: the M is in allm for good, and there is no P here to note the write with.
	*(*uintptr)(unsafe.Pointer(&taken.m)) = uintptr(unsafe.Pointer(mp))
	taken.last = last
	return uint32(uintptr(unsafe.Pointer(mp.g0)))
}

// takenM is needm's getExtraM.
//
//go:nosplit
func takenM() (mp *m, last bool) { return taken.m, taken.last }

// attach makes the taken M this instance's, and returns its goroutine. Runs on g0.
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
	// The return address below the rest frame: what called the export, in the traceback's eyes.
	*(*uintptr)(unsafe.Pointer(gp.stack.hi - restFrame - goarch.PtrSize)) = abi.FuncPCABI0(goexit) + sys.PCQuantum
	return uint32(uintptr(unsafe.Pointer(gp)))
}

// enter leaves the rest. 0: the goroutine was running, this is a call from inside a call; nothing to undo.
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

// leave returns to the rest.
//
//go:wasmexport gt_leave
//go:nosplit
func gtLeave() {
	gp := getg()
	gp.m.incgo = true
	gp.m.isExtraInC = true
	reentersyscall(abi.FuncPCABI0(goexit)+sys.PCQuantum, gp.stack.hi-restFrame, 0)
}

// g0 is the g0 of the attached M, on whose stack detach runs.
//
//go:wasmexport gt_g0
//go:nosplit
func gtG0() uint32 { return uint32(uintptr(unsafe.Pointer(getg().m.g0))) }

// detach gives the M back to the list of extra Ms. Runs on g0.
//
//go:wasmexport gt_detach
//go:nosplit
//go:nowritebarrierrec
func gtDetach() { dropm() }

// importEnter puts the goroutine into a system call around a host call that may block. It is called by a host
// call's wrapper, which has no frame and no stack map: the system call is its caller's, whose return address
// is what SP points at and whose frame begins 8 bytes above.
//
//go:nosplit
func gtImportEnter() {
	sp := sys.GetCallerSP()
	reentersyscall(*(*uintptr)(unsafe.Pointer(sp)), sp+goarch.PtrSize, 0)
}

// keepImportEnter makes the linker keep what only the rewrite calls.
//
//go:wasmexport gt_import_enter
//go:nosplit
func gtKeepImportEnter() { gtImportEnter() }
