package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A pooled is what pools hand out: it belongs to nobody, or to one.
type pooled struct {
	owned   atomic.Bool
	content [64]uint64
}

// pools: a sync.Pool. What it hands out is with one owner at a time, and new, or as the last owner has left it.
// The bug: some are put back twice.
type pools struct {
	broken bool
	pool   sync.Pool
	gets   atomic.Int64
}

func newPool(broken bool) storm {
	return &pools{broken: broken, pool: sync.Pool{New: func() any { return &pooled{} }}}
}

func (p *pools) round(r *random) int64 {
	if r.below(4096) == 0 {
		runtime.GC() // which empties it
	}
	got := p.pool.Get().(*pooled)
	p.gets.Add(1)
	if got.owned.Swap(true) {
		failf("a sync.Pool hands out what somebody else has")
	}
	mark := r.next()
	for i := range got.content {
		if got.content[i] != 0 {
			failf("a sync.Pool hands out what somebody still writes to: word %d is %#x", i, got.content[i])
		}
		got.content[i] = mark + uint64(i)
	}
	if r.below(16) == 0 {
		runtime.Gosched()
	}
	for i := range got.content {
		if got.content[i] != mark+uint64(i) {
			failf("what a sync.Pool has handed out is written to by somebody else: word %d is %#x, not %#x", i, got.content[i], mark+uint64(i))
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

func (p *pools) total() int64 { return p.gets.Load() }
