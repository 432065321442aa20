//go:build wasip1

package runtime

import (
	"internal/stringslite"
	"unsafe"
)

// Queries of the host about a running module. The host keeps a caller for them, so that they are answered even when
// all other callers are blocked.

// counts is read by the host as gothreads.runtime.inspector.Counts, in this order.
type counts struct {
	goroutines, running, runnable, waiting, syscalls uint64 // the program's, without this one and resting callers
	timers, ms, collections, heap                    uint64
	blocked                                          uint64 // callers whose goroutines wait
	busy                                             uint64 // activities under way, the runtime's own included
	procs, busyProcs                                 uint64 // GOMAXPROCS, and how many run goroutines, the runtime's own included
	pauses                                           uint64 // how long the collector has stopped the world so far, in ns
}

// gothreadsCounts fills the counts at p. If exact, it stops the world meanwhile, so that no goroutine is missed while
// it changes its state; those that were running are then runnable.
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
	c.procs = uint64(gomaxprocs)
	c.pauses = memstats.pause_total_ns
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
		if status == _Grunning {
			c.busyProcs++
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
			case waitReasonIOWait: // waits for a peer
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

// waitsForRuntime reports whether a goroutine waits for the collector, or for a stopped world: the world may be
// stopped only to inspect the goroutine.
func waitsForRuntime(gp *g) bool {
	switch gp.waitreason {
	case waitReasonSemacquire, waitReasonWaitForGCCycle, waitReasonGCAssistWait, waitReasonGCAssistMarking,
		waitReasonStoppingTheWorld, waitReasonGarbageCollection:
		return true
	}
	return false
}

// gothreadsPreparing reports whether the program is still running on its own account, so that it may yet register
// handlers. It stops the world only when nothing seems to run: if a loop cannot be preempted, stopping would make
// every thread wait for the end of the loop.
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

// preparing ignores callers, whose work the host has started. A sleeping main goroutine counts, as it will go on;
// other goroutines may sleep again and again as part of their regular work.
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

// readsQueue reports whether a goroutine is one of those of gothreads/guest that wait for events or replies, which the
// host knows about.
func readsQueue(gp *g) bool {
	f := findfunc(gp.startpc)
	return f.valid() && stringslite.HasPrefix(funcname(f), "gothreads/guest.")
}

// gothreadsBlocked reports whether the goroutine of a caller is waiting.
//
//go:wasmexport gothreads_blocked
func gothreadsBlocked(p unsafe.Pointer) bool {
	return readgstatus((*g)(p))&^_Gscan == _Gwaiting
}

// scheduler says where the host finds what each P runs (gothreads/csrc/scheduler.c reads it, without a call), and which
// function is at a PC. It is read by the host as gothreads.runtime.inspector.SchedulerWords, in this order.
type scheduler struct {
	pc                   uint64 // given by the host
	allp                 uint64 // the address of the slice
	pM, mID, mCurg       uint64 // offsets
	gID, gStatus, gStart uint64
	name, nameLength     uint64 // in the linker's tables, which stay
}

// gothreadsScheduler fills the words at addr, whose first is a PC, or 0.
//
//go:wasmexport gothreads_scheduler
func gothreadsScheduler(addr unsafe.Pointer) {
	s := (*scheduler)(addr)
	var (
		pp *p
		mp *m
		gp *g
	)
	s.allp = uint64(uintptr(unsafe.Pointer(&allp)))
	s.pM, s.mID, s.mCurg = uint64(unsafe.Offsetof(pp.m)), uint64(unsafe.Offsetof(mp.id)), uint64(unsafe.Offsetof(mp.curg))
	s.gID, s.gStatus, s.gStart = uint64(unsafe.Offsetof(gp.goid)), uint64(unsafe.Offsetof(gp.atomicstatus)),
		uint64(unsafe.Offsetof(gp.startpc))
	name := funcname(findfunc(uintptr(s.pc)))
	s.name, s.nameLength = uint64(uintptr(unsafe.Pointer(unsafe.StringData(name)))), uint64(len(name))
}
