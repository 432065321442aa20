//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// Threads: what os_wasm.go says is not there. Functions marked "stub" have a body only for the compiler;
// gothreads replaces it in the linked module by the WebAssembly instructions that Go has no words for.

type mOS struct {
	waitsema    uint32  // semaphore for parking on locks
	loopCheckPC uintptr // where the loop's check that runs now returns to
	stackBase   uintptr // SP where the WebAssembly stack was last empty: recursion_gothreads.go
	largeFrame  uintptr // how much of the stack the function that runs next takes at once
}

//go:wasmimport gothreads ncpu
func getCPUCount() int32

// threadSpawn asks the host for a thread that runs mstart on the given g0. A negative answer: there is none.
//
//go:wasmimport gothreads thread_spawn
func threadSpawn(g0 uint32) int32

// hostInitialized tells the host that packages are initialised: exports may be called from now on.
//
//go:wasmimport gothreads initialized
func hostInitialized()

// hostHasCallers says whether the host may call exports of this module at all.
//
//go:wasmimport gothreads has_callers
func hostHasCallers() int32

// hasCallers is for checkdead: where no calls can come, goroutines that all wait are deadlocked, as in any Go
// program. It is asked for once: checkdead holds the scheduler's lock, which must not wait for the host.
var hasCallers bool

// initialized is called by the main goroutine between the inits and main.main.
func initialized() {
	hasCallers = hostHasCallers() != 0
	hostInitialized()
}

//go:wasmimport wasi_snapshot_preview1 sched_yield
func hostYield() errno

//go:nosplit
func osyield() { hostYield() }

// futexWait is memory.atomic.wait32: 0 woken, 1 the value differed, 2 timed out. A negative ns waits for ever.
// Stub. The host ends it when it wants the module to stop.
//
//go:nosplit
//go:noinline
func futexWait(addr *uint32, val uint32, ns int64) int32 { return int32(*addr) }

// futexWake is memory.atomic.notify. Stub.
//
//go:nosplit
//go:noinline
func futexWake(addr *uint32, cnt uint32) uint32 { return *addr }

// clockOffset is what this instance adds to its host clock, which starts at a zero of its own; oneClock: it does not, all
// instances have one clock. Stub.
//
//go:nosplit
//go:noinline
func clockOffset() int64 { return int64(sleepWord) }

const oneClock = -1 << 63

// sameTime is the time that this instance's host clock tells, as all threads have it.
//
//go:nosplit
func sameTime(now int64) int64 {
	offset := clockOffset()
	if offset == oneClock {
		return now
	}
	return notBefore(now + offset)
}

// latestTime is the latest that any thread has been told. A thread that has seen another's time, in whatever way, is told
// none before it, however their clocks differ.
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
func futexsleep(addr *uint32, val uint32, ns int64) { futexWait(addr, val, ns) }

//go:nosplit
func futexwakeup(addr *uint32, cnt uint32) { futexWake(addr, cnt) }

// sleepWord is never changed: waiting on it is sleeping.
var sleepWord uint32

//go:nosplit
func usleep(usec uint32) { futexWait(&sleepWord, 0, int64(usec)*1000) }

// May run with m.p==nil, so write barriers are not allowed.
//
//go:nowritebarrier
func newosproc(mp *m) {
	if threadSpawn(uint32(uintptr(unsafe.Pointer(mp.g0)))) < 0 {
		throw("gothreads: the host has no thread left for the Go runtime (see the limit on threads)")
	}
}

// Called to initialize a new m (including the bootstrap m), on the new thread; cannot allocate memory.
// The execution tracer and dropm tell threads apart by procid.
func minit() {
	mp := getg().m
	mp.procid = uint64(mp.id) + 2
}
