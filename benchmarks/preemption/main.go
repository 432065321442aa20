// Command preemption measures what preemption checks in loops cost (calls, allocation, tight loops) and what they give
// (how long a garbage collection waits for a loop that makes no calls).
package main

import (
	"runtime"
	"time"
)

func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

//go:wasmexport calls
func calls(n int32) int64 { return int64(fibonacci(int(n))) }

type tree struct{ left, right *tree }

func grow(depth int32) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{grow(depth - 1), grow(depth - 1)}
}

func (t *tree) size() int64 {
	if t == nil {
		return 0
	}
	return 1 + t.left.size() + t.right.size()
}

//go:wasmexport allocation
func allocation(n int32) int64 {
	var total int64
	for range n {
		total += grow(12).size()
	}
	return total
}

var table [64]uint64

//go:wasmexport tight
func tight(n int64) int64 {
	var sum uint64
	for i := range uint64(n) {
		sum += table[i&63] ^ i
	}
	return int64(sum)
}

// collection returns how long a garbage collection takes while a loop without calls runs, in nanoseconds.
//
//go:wasmexport collection
func collection(n int64) int64 {
	done := make(chan int64)
	go func() { done <- tight(n) }()
	time.Sleep(5 * time.Millisecond)
	begin := time.Now()
	runtime.GC()
	taken := time.Since(begin)
	<-done
	return int64(taken)
}

func main() { select {} }
