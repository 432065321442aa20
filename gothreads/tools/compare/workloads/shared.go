package main

import "sync"

const shards = 64

type table struct {
	sync.Mutex
	counts map[int64]int64
	_      [40]byte // a cache line of its own
}

var tables [shards]table

// count adds one to n entries of a map, one lock at a time. With shards, the entries are spread over many maps, each with a lock of its
// own, and each caller begins at another.
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

// counted takes what has been counted since it was asked last.
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
