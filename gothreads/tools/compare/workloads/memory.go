package main

import (
	"sync"
	"time"
)

var (
	heap     []byte
	heapOnce sync.Once
)

// have_heap creates the program's data, once, and touches every page of it. It returns the sum of a byte of each page.
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

// hold creates the program's data, tells the host that the call is in the module (0), and waits until the host (asked
// with 1) lets it return.
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
