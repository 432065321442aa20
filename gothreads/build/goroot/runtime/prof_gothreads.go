//go:build wasip1

package runtime

import (
	"internal/abi"
	"internal/goarch"
	"internal/runtime/atomic"
	"internal/runtime/sys"
	"unsafe"
)

// CPU profiles. WebAssembly has no signals, so nothing can interrupt a thread to look at its stack. But each goroutine
// passes checks of its stack guard: in the prologue of nearly every function, and on each loop's back edge. So sysmon
// asks for samples (profAsk), and the goroutine takes them at its next check (profPrologue, profLoop), or when it leaves
// the system stack (profSystemStack, profGrown).
//
// Invariants:
//
//  1. profDue counts the periods for which an M owes a sample. Only sysmon adds to it; only the M itself empties it.
//  2. Whoever poisons the guard for a sample does not set gp.preempt, so the goroutine goes on after the sample
//     (profOnly). One that is poisoned although its M owes nothing yields once more: it was switched meanwhile, or its
//     sample was taken when it left the system stack.
//  3. No request to preempt is lost. preemptone sets gp.preempt first and the guard after it; profOnly clears the guard
//     first and looks at gp.preempt after it. Either profOnly sees the request, or the guard is poisoned after it was
//     cleared. The store must be sequentially consistent, or the look could come before it.
//  4. An M that holds prof.signalLock is not sampled. setcpuprofilerate holds m.locks and sets its profilehz to 0
//     before it takes the lock; profTake runs on g0, where no check is taken. (profilehz alone does not tell: it stays 0
//     on the M of a caller, which comes back from a system call without execute.)
//
// What follows from checks: a leaf function without a loop has none, and is charged to its caller. Time that an M spends
// on the scheduler, or in a host function, is no goroutine's and is not sampled; a system call that blocks has no P.

// Each period has one sample, at a random moment: at regular ones, work in cycles as long as the period would always be
// sampled at the same place. In nanoseconds, used by sysmon:
var (
	profPeriod int64 // when the period began whose sample comes next
	profNext   int64 // when that is due
)

func setProcessCPUProfiler(hz int32) {
	if hz != 0 {
		profPeriod = nanotime()
		profNext = profPeriod
	}
}

func setThreadCPUProfiler(hz int32) { getg().m.profilehz = hz }

// profSleep returns for how long sysmon may sleep, in microseconds: delay, or until the next sample is due.
func profSleep(delay uint32) uint32 {
	if prof.hz.Load() == 0 {
		return delay
	}
	return min(delay, uint32(max(profNext-nanotime(), 50000)/1000))
}

// profAsk asks each M that runs a goroutine for the samples that are due. It runs on sysmon, which has no P.
//
//go:nowritebarrierrec
func profAsk(now int64) {
	hz := prof.hz.Load()
	if hz == 0 || now < profNext {
		return
	}
	length := 1000000000 / int64(hz)
	due := 1 + max(now-profPeriod, 0)/length
	profPeriod += due * length
	profNext = profPeriod + int64(cheaprandn(uint32(length)))
	due = min(due, 10) // sysmon sleeps while nothing runs
	lock(&allpLock)
	for _, pp := range allp {
		if pp == nil || pp.status != _Prunning {
			continue
		}
		mp := pp.m.ptr()
		if mp == nil || mp == getg().m {
			continue
		}
		gp := mp.curg
		if gp == nil || gp == mp.g0 || readgstatus(gp)&^_Gscan == _Gsyscall {
			continue
		}
		mp.profDue.Add(int32(due))
		gp.stackguard0 = stackPreempt
	}
	unlock(&allpLock)
}

// profPrologue is called by newstack, on g0, when the guard was poisoned. pc and sp are those of the caller of the
// function that checked: the time before a prologue is the caller's. It reports whether only a sample was wanted.
//
//go:nowritebarrierrec
func profPrologue(gp *g, pc, sp uintptr) bool {
	if gp.m.profDue.Load() == 0 {
		return false
	}
	profTake(gp, pc, sp, 0, 0, 0)
	return profOnly(gp)
}

// profLoop is profPrologue for a loop's check: it skips the frame of goschedguarded.
//
//go:nowritebarrierrec
func profLoop(gp *g) bool {
	if gp.m.profDue.Load() == 0 {
		return false
	}
	profTake(gp, gp.sched.pc, gp.sched.sp, 1, 0, 0)
	return profOnly(gp)
}

// profSystemStack is called by systemstack, still on g0, if samples are due when its function has returned. The frames
// of the function and of systemstack take the place of systemstack_switch's. The function is systemstack's argument,
// above its return address.
//
//go:nowritebarrierrec
func profSystemStack() {
	gp := getg().m.curg
	fn := *(**uintptr)(unsafe.Pointer(gp.sched.sp + goarch.PtrSize))
	profTake(gp, gp.sched.pc, gp.sched.sp, 1, *fn, abi.FuncPCABI0(systemstack))
}

// profGrown is called by newstack, on g0, when it has moved the stack.
//
//go:nowritebarrierrec
func profGrown(gp *g) {
	if gp.m.profDue.Load() != 0 {
		profTake(gp, gp.sched.pc, gp.sched.sp, 0, abi.FuncPCABIInternal(newstack), abi.FuncPCABI0(morestack))
	}
}

// profOnly lets the goroutine go on, unless it is asked to yield, too.
//
//go:nowritebarrierrec
func profOnly(gp *g) bool {
	if gp.preempt {
		return false
	}
	atomic.Storeuintptr(&gp.stackguard0, gp.stack.lo+stackGuard)
	if gp.preempt {
		gp.stackguard0 = stackPreempt
		return false
	}
	return true
}

// profCPU returns the CPU time of this thread in nanoseconds, or -1 if the host has no clock for it.
func profCPU() int64 {
	const clockThreadCPU clockid = 3
	var t timestamp
	if clock_time_get(clockThreadCPU, 0, &t) != 0 {
		return -1
	}
	return int64(t)
}

// profWeight returns for how many of the due periods this thread can have run: where processors are scarce, it waited
// for one in the others.
func profWeight(mp *m, due uint32) uint32 {
	cpu := profCPU()
	if cpu < 0 || mp.isextra { // or any thread of the host may have called through it before
		return min(due, 3)
	}
	before := mp.profCPU
	mp.profCPU = cpu
	if before == 0 {
		return 1
	}
	return min(due, uint32(1+(cpu-before)*int64(prof.hz.Load())/1000000000))
}

// profTake writes the samples that are due: the stack at pc and sp, without its innermost `skip` frames, and below it
// the entries of the functions that ran on g0, innermost first, if they are not 0. It must not allocate, like Go's own
// sigprof.
//
//go:nowritebarrierrec
func profTake(gp *g, pc, sp uintptr, skip int, inner, outer uintptr) {
	mp := gp.m
	due := mp.profDue.Swap(0)
	if mp.profilehz == 0 && mp.locks != 0 || prof.hz.Load() == 0 {
		return
	}
	due = profWeight(mp, due)
	mp.mallocing++
	var u unwinder
	var stk [maxCPUProfStack]uintptr
	n := 0
	if inner != 0 {
		stk[0], stk[1], n = inner+sys.PCQuantum, outer+sys.PCQuantum, 2
	}
	u.initAt(pc, sp, 0, gp, unwindSilentErrors|unwindJumpStack)
	n += tracebackPCs(&u, skip, stk[n:])
	if n > 0 {
		for !prof.signalLock.CompareAndSwap(0, 1) {
			osyield()
		}
		if prof.hz.Load() != 0 {
			count := [1]uint64{uint64(due)}
			cpuprof.log.write(&gp.labels, nanotime(), count[:], stk[:n])
		}
		prof.signalLock.Store(0)
		traceCPUSample(gp, mp, mp.p.ptr(), stk[:n])
	}
	mp.mallocing--
}
