//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// Threads, which os_wasm.go stubs out. Functions marked "Stub" have a body only for the compiler: in the linked module
// gothreads replaces it with WebAssembly instructions that Go cannot express.

type mOS struct {
	waitsema    uint32        // semaphore for parking on locks
	loopCheckPC uintptr       // return address of the loop check that runs now
	stackBase   uintptr       // SP where the WebAssembly stack was last empty: recursion_gothreads.go
	largeFrame  uintptr       // frame size of the function that runs next, in bytes
	profDue     atomic.Uint32 // samples of the running goroutine that are due: prof_gothreads.go
	profCPU     int64         // the thread's CPU time at its last sample, in nanoseconds
}

//go:wasmimport gothreads ncpu
func getCPUCount() int32

// threadSpawn asks the host for a thread that runs mstart on the given g0. A negative result means there is none.
//
//go:wasmimport gothreads thread_spawn
func threadSpawn(g0 uint32) int32

// hostInitialized tells the host that packages are initialised: it may call exports from now on.
//
//go:wasmimport gothreads initialized
func hostInitialized()

// hostHasCallers reports whether the host may call exports of this module at all.
//
//go:wasmimport gothreads has_callers
func hostHasCallers() int32

// hasCallers is used by checkdead: where no calls can come, goroutines that all wait are deadlocked, as in any Go
// program. The host is asked once, in advance: checkdead holds the scheduler lock, which must not wait for the host.
var hasCallers bool

// initialized is called by the main goroutine between the init functions and main.main.
func initialized() {
	hasCallers = hostHasCallers() != 0
	hostInitialized()
}

//go:wasmimport wasi_snapshot_preview1 sched_yield
func hostYield() errno

//go:nosplit
func osyield() { hostYield() }

// futexWait is memory.atomic.wait32. It returns 0 when woken, 1 if the value differed, 2 on a timeout. With a negative
// ns it waits for ever. The host ends the wait when it stops the module. Stub.
//
//go:nosplit
//go:noinline
func futexWait(addr *uint32, val uint32, ns int64) int32 { return int32(*addr) }

// futexWake is memory.atomic.notify. Stub.
//
//go:nosplit
//go:noinline
func futexWake(addr *uint32, cnt uint32) uint32 { return *addr }

// clockOffset returns what this instance must add to its host clock, in nanoseconds, as each host clock starts at its
// own zero; or oneClock, when all instances share one clock. Stub.
//
//go:nosplit
//go:noinline
func clockOffset() int64 { return int64(sleepWord) }

const oneClock = -1 << 63

// sameTime converts a time of this instance's host clock to the time that all threads share.
//
//go:nosplit
func sameTime(now int64) int64 {
	offset := clockOffset()
	if offset == oneClock {
		return now
	}
	return notBefore(now + offset)
}

// latestTime is the latest time that any thread has read. A thread that has seen another thread's time, in whatever
// way, never reads an earlier one, however their clocks differ.
var latestTime atomic.Int64

//go:nosplit
func notBefore(now int64) int64 {
	for {
		latest := latestTime.Load()
		if now <= latest {
			return latest
		}
		if latestTime.CompareAndSwap(latest, now) {
			return now
		}
	}
}

//go:nosplit
func futexsleep(addr *uint32, val uint32, ns int64) {
	futexWait(addr, val, ns)
	runHandlers()
}

// handlersWanted is not 0 when the host wants its main thread to run signal handlers (gothreads/wasm/layout.py).
const handlersWanted = 124

// hostRunHandlers runs the host's signal handlers if this thread is the host's main thread.
//
//go:wasmimport gothreads run_handlers
func hostRunHandlers()

// runHandlers runs the host's signal handlers if it wants that, and this thread is one that calls came from. It is
// called where a thread comes by in time: when a goroutine is preempted, which sysmon does after 10 ms, and when a wait
// is over, since the host wakes those that are parked. Like a host call anywhere else in the runtime, it does not switch
// goroutines.
//
//go:nosplit
func runHandlers() {
	if atomic.Load((*uint32)(unsafe.Pointer(uintptr(handlersWanted)))) != 0 && getg().m.isextra {
		hostRunHandlers()
	}
}

//go:nosplit
func futexwakeup(addr *uint32, cnt uint32) { futexWake(addr, cnt) }

// sleepWord never changes: waiting on it is sleeping.
var sleepWord uint32

//go:nosplit
func usleep(usec uint32) { futexWait(&sleepWord, 0, int64(usec)*1000) }

// newosproc starts a thread for mp. It may run with m.p==nil, so write barriers are not allowed.
//
//go:nowritebarrier
func newosproc(mp *m) {
	if threadSpawn(uint32(uintptr(unsafe.Pointer(mp.g0)))) < 0 {
		throw("gothreads: the host has no thread left for the Go runtime (see the limit on threads)")
	}
}

// minit initializes a new m (including the bootstrap m), on the new thread. It cannot allocate memory. The execution
// tracer and dropm tell threads apart by procid.
func minit() {
	mp := getg().m
	mp.procid = uint64(mp.id) + 2
}
