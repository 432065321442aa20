//go:build wasip1

package runtime

import (
	"internal/stringslite"
	"unsafe"
)

// What the host asks about a running module. It does so through a caller that is kept for this, so that an answer comes when
// all others are blocked.

// counts is what the host reads: gothreads.runtime.inspector.Counts, in this order.
type counts struct {
	goroutines, running, runnable, waiting, syscalls uint64 // the program's own, but for this one and callers at rest
	timers, ms, collections, heap                    uint64
	blocked                                          uint64 // callers whose goroutines wait
	busy                                             uint64 // something goes on, of the runtime's own too
}

// gothreadsCounts counts. If exact, the world is stopped meanwhile, so that no goroutine is missed on its way from one state to
// another; those that ran are runnable then.
//
//go:wasmexport gothreads_counts
func gothreadsCounts(p unsafe.Pointer, exact uint32) {
	c := (*counts)(p)
	if exact != 0 {
		stw := stopTheWorld(stwGoroutineProfile)
		count(c)
		startTheWorld(stw)
	} else {
		count(c)
	}
	c.goroutines = c.running + c.runnable + c.waiting + c.syscalls
	c.ms = uint64(mcount())
	c.collections = uint64(memstats.numgc)
	c.heap = gcController.heapLive.Load()
}

func count(c *counts) {
	*c = counts{}
	me := getg()
	forEachGRace(func(gp *g) {
		if gp == me {
			return
		}
		status := readgstatus(gp) &^ _Gscan
		if status == _Grunning || status == _Grunnable || status == _Gpreempted {
			c.busy++
		}
		if isSystemGoroutine(gp, false) {
			return
		}
		switch status {
		case _Grunning:
			c.running++
		case _Grunnable:
			c.runnable++
		case _Gsyscall:
			if mp := gp.m; mp == nil || !mp.incgo {
				c.syscalls++
				c.busy++
			}
		case _Gwaiting, _Gpreempted:
			c.waiting++
			switch gp.waitreason {
			case waitReasonIOWait: // for a peer
				if !readsQueue(gp) {
					c.busy++
				}
			default:
				if waitsForRuntime(gp) {
					c.busy++
				}
			}
			if mp := gp.lockedm.ptr(); mp != nil && mp.isextra {
				c.blocked++
			}
		}
	})
	lock(&allpLock)
	for _, pp := range allp[:gomaxprocs] {
		c.timers += uint64(max(0, int32(pp.timers.len.Load())-pp.timers.zombies.Load()))
	}
	unlock(&allpLock)
	c.busy += c.timers
	if gcphase != _GCoff {
		c.busy++
	}
}

// waitsForRuntime says whether a goroutine waits for the collector, or for the world, which may be stopped to look at it.
func waitsForRuntime(gp *g) bool {
	switch gp.waitreason {
	case waitReasonSemacquire, waitReasonWaitForGCCycle, waitReasonGCAssistWait, waitReasonGCAssistMarking,
		waitReasonStoppingTheWorld, waitReasonGarbageCollection:
		return true
	}
	return false
}

// gothreadsPreparing says whether the program still works by itself, so that it may yet register handlers. It stops the
// world only when nothing seems to run: where a loop cannot be preempted, everybody would wait for its end.
//
//go:wasmexport gothreads_preparing
func gothreadsPreparing() bool {
	if preparing() {
		return true
	}
	stw := stopTheWorld(stwGoroutineProfile)
	goesOn := preparing()
	startTheWorld(stw)
	return goesOn
}

// preparing leaves out callers: the host has begun what they do. A main that sleeps will go on; other goroutines sleep
// as a part of what they do all the time.
func preparing() bool {
	goesOn := false
	forEachGRace(func(gp *g) {
		if mp := gp.lockedm.ptr(); (mp != nil && mp.isextra) || isSystemGoroutine(gp, false) {
			return
		}
		switch readgstatus(gp) &^ _Gscan {
		case _Grunning, _Grunnable, _Gpreempted, _Gsyscall:
			goesOn = true
		case _Gwaiting:
			if waitsForRuntime(gp) || (gp.goid == 1 && gp.waitreason == waitReasonSleep) {
				goesOn = true
			}
		}
	})
	return goesOn
}

// readsQueue says whether a goroutine is one of gothreads/guest's that wait for events or replies, of which the host knows.
func readsQueue(gp *g) bool {
	f := findfunc(gp.startpc)
	return f.valid() && stringslite.HasPrefix(funcname(f), "gothreads/guest.")
}

// gothreadsBlocked says whether a caller's goroutine waits for another.
//
//go:wasmexport gothreads_blocked
func gothreadsBlocked(p unsafe.Pointer) bool {
	return readgstatus((*g)(p))&^_Gscan == _Gwaiting
}
