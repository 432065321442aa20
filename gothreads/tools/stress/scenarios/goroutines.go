package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// goroutineStorm: goroutines that start others and wait for them; some end by a panic that is recovered, some by
// Goexit, some with the thread that they are locked to. When a sync.WaitGroup returns, all have run, including what
// they deferred. The bug: each goroutine adds itself to the WaitGroup, which may be after the wait.
type goroutineStorm struct {
	broken bool
	ended  atomic.Int64
}

func newGoroutines(broken bool) storm { return &goroutineStorm{broken: broken} }

func (g *goroutineStorm) round(r *random) int64 {
	var ended atomic.Int64
	want := g.tree(r, 1+r.below(3), &ended)
	if n := ended.Load(); n != want {
		failf("%d goroutines were started and waited for, of which %d have ended", want, n)
	}
	var once sync.Once
	var times atomic.Int32
	var waiting sync.WaitGroup
	for range r.below(4) {
		waiting.Go(func() {
			once.Do(func() { runtime.Gosched(); times.Add(1) })
			if times.Load() != 1 {
				failf("sync.Once returns after %d times", times.Load())
			}
		})
	}
	waiting.Wait()
	g.ended.Add(want)
	return want
}

// tree starts goroutines that start goroutines, waits for them, and returns how many have ended.
func (g *goroutineStorm) tree(r *random, depth int, ended *atomic.Int64) int64 {
	if depth == 0 {
		return 0
	}
	var group sync.WaitGroup
	var below atomic.Int64
	count := 1 + r.below(6)
	for range count {
		way, own := r.below(64), random(r.next())
		if !g.broken {
			group.Add(1)
		}
		go func() {
			if g.broken {
				group.Add(1)
			}
			defer group.Done()
			defer ended.Add(1)
			below.Add(g.tree(&own, depth-1, ended))
			switch way {
			case 0, 1, 2:
				defer func() {
					if recover() != "on purpose" {
						failf("recover does not return the value of the panic")
					}
				}()
				panic("on purpose")
			case 3, 4, 5:
				runtime.Goexit()
				failf("runtime.Goexit returns")
			case 6:
				if depth == 1 {
					runtime.LockOSThread() // and the thread ends with it
				}
			case 7, 8, 9, 10:
				runtime.Gosched()
			}
		}()
	}
	group.Wait()
	return int64(count) + below.Load()
}

func (g *goroutineStorm) total() int64 { return g.ended.Load() }
