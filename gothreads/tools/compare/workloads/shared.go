package main

import "sync"

const shards = 64

type table struct {
	sync.Mutex
	counts map[int64]int64
	_      [40]byte // a cache line of its own
}

var tables [shards]table

// count increments n entries of a map, taking its lock for each. With spread, the entries are distributed over several
// maps, each with its own lock, and each caller starts at a different map.
//
//go:wasmexport count
func count(n, spread, begin int64) int64 {
	for i := range n {
		t := &tables[(begin+i)%spread]
		t.Lock()
		if t.counts == nil {
			t.counts = make(map[int64]int64)
		}
		t.counts[i%512]++
		t.Unlock()
	}
	return n
}

// counted returns what has been counted since the last time, and resets it.
//
//go:wasmexport counted
func counted() int64 {
	total := int64(0)
	for i := range tables {
		t := &tables[i]
		t.Lock()
		for _, n := range t.counts {
			total += n
		}
		clear(t.counts)
		t.Unlock()
	}
	return total
}
