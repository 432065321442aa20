// Races that a quiet machine hardly ever shows: what the race sharpener is for (gothreads/wasm/passes/sharpen.py).
package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// twice lets two goroutines meet so many times, of which each takes what nobody has taken: it looks, and then takes. Returns how often
// both have.
//
//go:wasmexport twice
func twice(rounds int32) int32 {
	taken := make([]atomic.Bool, rounds)
	for round := range taken {
		taken[round].Store(false) // its page is there: to bring it, between looking and taking, would be a delay that nobody asked for
	}
	var at [2]atomic.Int32
	var both atomic.Int32
	var group sync.WaitGroup
	for who := range at {
		group.Add(1)
		go func() {
			defer group.Done()
			for round := range rounds {
				at[who].Store(round + 1)
				for turn := 1; at[1-who].Load() < round+1; turn++ { // until the other is there too
					if turn%1000 == 0 { // and not each time: what the scheduler takes would hide what the sharpener adds
						runtime.Gosched()
					}
				}
				if (round+int32(who))%2 == 0 { // one of them comes a little later
					work(200)
				}
				if !taken[round].Load() {
					taken[round].Store(true)
					both.Add(1)
				}
			}
		}()
	}
	group.Wait()
	return both.Load() - rounds
}

// counts adds so often in two goroutines, each time under a lock, and returns the sum.
//
//go:wasmexport counts
func counts(times int32) int32 {
	var mutex sync.Mutex
	var group sync.WaitGroup
	sum := int32(0)
	for range 2 {
		group.Go(func() {
			for range times {
				mutex.Lock()
				sum++
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	return sum
}

var kept uint32

func work(turns uint32) {
	x := kept
	for n := range turns {
		x = x*1664525 + n
	}
	kept = x
}

func main() { select {} }
