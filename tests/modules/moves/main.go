// Command moves calls Python from deep in a goroutine's stack. Python calls grow, which moves that stack.
package main

import "fmt"

//go:wasmimport env again
func again(n int32) int32

type caller interface {
	call(depth int, above *[8]int) int
}

type direct struct{}

func (direct) call(depth int, above *[8]int) int { return frame(depth, above) }

type deferring struct{ calls int }

func (d *deferring) call(depth int, above *[8]int) (sum int) {
	defer func() { sum += d.calls }()
	d.calls++
	return frame(depth, above)
}

var callers = []caller{direct{}, &deferring{}}

// frame has values and pointers on the stack while Python is called.
//
//go:noinline
func frame(depth int, above *[8]int) int {
	var own [8]int
	for i := range own {
		own[i] = depth*8 + i
	}
	sum := 0
	switch {
	case depth == 0:
		sum = int(again(2000))
	case depth%3 == 0:
		sum = callers[depth%2].call(depth-1, &own)
	default:
		sum = frame(depth-1, &own)
	}
	for i := range 3 { // several times from one call
		if depth%7 == 0 {
			sum += int(again(int32(40 * (depth + i))))
		}
	}
	above[depth%8]++
	for _, v := range own {
		sum = sum*3 + v
	}
	return sum
}

//go:noinline
func deep(n int) int {
	var pad [16]int
	pad[n%16] = n
	if n > 0 {
		pad[0] += deep(n - 1)
	}
	return pad[0] + pad[n%16]%2
}

//go:wasmexport grow
func grow(n int32) int32 { return int32(deep(int(n)) % 1000) }

// outer returns what a new goroutine, with a small stack, computes.
//
//go:wasmexport outer
func outer(depth int32) int64 {
	var own [8]int
	return int64(frame(int(depth), &own) + own[depth%8])
}

// fails panics after the stack has moved, and returns the message.
//
//go:wasmexport fails
func fails(depth int32) (length int32) {
	defer func() { length = int32(len(fmt.Sprint(recover()))) }()
	var own [8]int
	return int32(own[frame(int(depth), &own)|8])
}

func main() {}
