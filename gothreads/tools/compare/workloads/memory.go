package main

import (
	"sync"
	"time"
)

var (
	heap     []byte
	heapOnce sync.Once
)

// have_heap makes the program's data, once, and touches all of it. The sum of what it finds there.
//
//go:wasmexport have_heap
func have_heap(megabytes int64) int64 {
	heapOnce.Do(func() {
		heap = make([]byte, megabytes<<20)
		for i := range heap {
			heap[i] = byte(i>>12) | 1
		}
	})
	sum := int64(0)
	for i := 0; i < len(heap); i += 4096 {
		sum += int64(heap[i])
	}
	return sum
}

// hold makes the program's data, tells the host that it is in (0), and waits until the host says (to 1) that it may go.
//
//go:wasmexport hold
func hold(megabytes int64) int64 {
	have_heap(megabytes)
	hostCall(0)
	waits := int64(0)
	for hostCall(1) == 0 {
		time.Sleep(100 * time.Millisecond)
		waits++
	}
	return waits
}
