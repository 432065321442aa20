//go:build wasip1

package runtime

import (
	"unsafe"
)

// What the host asks about a running module. It does so through a caller that is kept for this, so that an answer comes when
// all others are blocked.

// counts is what the host reads: gothreads.state.GoStatistics, in this order.
type counts struct {
	goroutines, running, runnable, waiting, syscalls uint64
	timers, ms, collections, heap                    uint64
}

// gothreadsCounts counts the goroutines that are the program's own, but for this one and callers at rest. If exact, the world
// is stopped meanwhile, so that no goroutine is missed on its way from one state to another; those that ran are runnable then.
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
		if gp == me || isSystemGoroutine(gp, false) {
			return
		}
		switch readgstatus(gp) &^ _Gscan {
		case _Grunning:
			c.running++
		case _Grunnable:
			c.runnable++
		case _Gsyscall:
			if mp := gp.m; mp == nil || !mp.incgo {
				c.syscalls++
			}
		case _Gwaiting, _Gpreempted:
			c.waiting++
		}
	})
	lock(&allpLock)
	for _, pp := range allp[:gomaxprocs] {
		c.timers += uint64(max(0, int32(pp.timers.len.Load())-pp.timers.zombies.Load()))
	}
	unlock(&allpLock)
}

// gothreadsBlocked says whether a caller's goroutine waits for another.
//
//go:wasmexport gothreads_blocked
func gothreadsBlocked(p unsafe.Pointer) bool {
	return readgstatus((*g)(p))&^_Gscan == _Gwaiting
}
