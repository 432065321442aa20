package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// goroutineses: goroutines that start others and wait for them; some end by a panic that is recovered, some by Goexit, some
// with the thread that they are locked to. Whoever waits by a sync.WaitGroup finds that all have run, with all that they
// deferred. The bug: the WaitGroup is told of a goroutine by the goroutine itself, which may be after the wait.
type goroutineses struct {
	broken bool
	ended  atomic.Int64
}

func newGoroutines(broken bool) storm { return &goroutineses{broken: broken} }

func (g *goroutineses) round(r *random) int64 {
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
				failf("sync.Once comes back after %d times", times.Load())
			}
		})
	}
	waiting.Wait()
	g.ended.Add(want)
	return want
}

// tree starts goroutines that start goroutines, and returns how many have ended when it does.
func (g *goroutineses) tree(r *random, depth int, ended *atomic.Int64) int64 {
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
						failf("a panic is not what is recovered")
					}
				}()
				panic("on purpose")
			case 3, 4, 5:
				runtime.Goexit()
				failf("runtime.Goexit comes back")
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

func (g *goroutineses) total() int64 { return g.ended.Load() }
