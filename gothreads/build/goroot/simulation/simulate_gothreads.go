package runtime

import _ "unsafe" // for go:linkname

// Scheduling by a seed, for `simulate=`: docs/testing.md. Only programs that are built for it have this file.
//
// One thread runs all goroutines. Which one is next is drawn among those that are runnable, and a goroutine may be
// stopped before each atomic operation of sync/atomic (so before each operation of package sync), and before each
// operation on a channel. Draws depend on the seed and on the number of draws before. So do time and random bytes, which
// the host gives (wasi/simulation.py). Nothing else can change the order in which code runs: the same program with the
// same seed makes the same draws.

//go:wasmimport gothreads simulation_seed
//go:noescape
func simulation_seed(seed *uint64) errno

// The generator (xorshift64*), and how often a goroutine is stopped: at one point of often+1. How often is drawn, too:
// some faults need many switches, others need a goroutine that runs far while the others stand still.
var simulation struct {
	state, often uint64
}

func simulateDraw() uint64 {
	s := simulation.state
	if s == 0 { // the first draw of this program
		if simulation_seed(&s) != 0 || s == 0 {
			throw("the host gives no seed")
		}
	}
	s ^= s >> 12
	s ^= s << 25
	s ^= s >> 27
	simulation.state = s
	drawn := (s * 0x2545f4914f6cdd1d) >> 16
	if simulation.often == 0 {
		simulation.often = 1<<(1+drawn%5) - 1
	}
	return drawn
}

// simulateStop lets other goroutines run here, or not. It does nothing where the runtime must not be interrupted.
//
//go:linkname simulateStop
func simulateStop() {
	gp := getg()
	if gp != gp.m.curg || !canPreemptM(gp.m) || simulateDraw()&simulation.often != 0 {
		return
	}
	mcall(gosched_m)
}

// simulatePick takes a goroutine of the P's queue by chance. Those of the global queue move up first, as far as there
// is room, so each is moved once, however many there are.
func simulatePick(pp *p) *g {
	if next := pp.runnext; next != 0 {
		pp.runnext = 0
		runqput(pp, next.ptr(), false)
	}
	head, size := pp.runqhead, uint32(len(pp.runq))
	if pp.runqtail-head < size && !sched.runq.empty() {
		lock(&sched.lock)
		for pp.runqtail-head < size && !sched.runq.empty() {
			pp.runq[pp.runqtail%size].set(sched.runq.pop())
			pp.runqtail++
		}
		unlock(&sched.lock)
	}
	count := pp.runqtail - head
	if count == 0 {
		return nil
	}
	first, drawn := &pp.runq[head%size], &pp.runq[(head+uint32(simulateDraw()%uint64(count)))%size]
	*first, *drawn = *drawn, *first
	pp.runqhead = head + 1
	return first.ptr()
}
