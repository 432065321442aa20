package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A pooled is an object of a pool: it has one owner, or none.
type pooled struct {
	owned   atomic.Bool
	content [64]uint64
}

// poolStorm: a sync.Pool. Its objects have one owner at a time, and are new, or as the last owner left them.
// The bug: some are put back twice.
type poolStorm struct {
	broken bool
	pool   sync.Pool
	gets   atomic.Int64
}

func newPool(broken bool) storm {
	return &poolStorm{broken: broken, pool: sync.Pool{New: func() any { return &pooled{} }}}
}

func (p *poolStorm) round(r *random) int64 {
	if r.below(4096) == 0 {
		runtime.GC() // which empties it
	}
	got := p.pool.Get().(*pooled)
	p.gets.Add(1)
	if got.owned.Swap(true) {
		failf("a sync.Pool hands out an object that somebody else has")
	}
	mark := r.next()
	for i := range got.content {
		if got.content[i] != 0 {
			failf("a sync.Pool hands out an object that somebody still writes to: word %d is %#x", i, got.content[i])
		}
		got.content[i] = mark + uint64(i)
	}
	if r.below(16) == 0 {
		runtime.Gosched()
	}
	for i := range got.content {
		if got.content[i] != mark+uint64(i) {
			failf("an object from a sync.Pool is written to by somebody else: word %d is %#x, not %#x", i, got.content[i], mark+uint64(i))
		}
		got.content[i] = 0
	}
	got.owned.Store(false)
	p.pool.Put(got)
	if p.broken && r.below(64) == 0 {
		p.pool.Put(got)
	}
	return 1
}

func (p *poolStorm) total() int64 { return p.gets.Load() }
