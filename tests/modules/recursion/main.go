// Command recursion calls itself: without end, and deeply, with all that may happen on the way down and up.
package main

import (
	"runtime"
	"runtime/debug"
	"time"
)

//go:wasmimport env visit
func hostVisit(n int64) int64

//go:noinline
func sum(n int64) int64 {
	if n == 0 {
		return 0
	}
	return sum(n-1) + n
}

// large has a frame that is larger than what the WebAssembly stack is emptied after.
//
//go:noinline
func large(n int64) int64 {
	var pad [200 << 10]byte
	pad[n] = byte(n)
	if n == 0 {
		return 0
	}
	return large(n-1) + int64(pad[n])
}

// visits calls the host in each frame, on the way down and on the way up.
//
//go:noinline
func visits(n int64) int64 {
	if n == 0 {
		return 0
	}
	return hostVisit(1) + visits(n-1) + hostVisit(-1)
}

// yields lets others run in each frame.
//
//go:noinline
func yields(n int64) int64 {
	if n == 0 {
		return 0
	}
	runtime.Gosched()
	return yields(n-1) + n
}

// zigzag goes down to each depth from a bit further up than the time before.
//
//go:noinline
func zigzag(n int64) int64 {
	if n == 0 {
		return 0
	}
	below := zigzag(n - 1)
	if n%1000 == 0 {
		return below + n + sum(n) - n*(n+1)/2 // from here down again
	}
	return below + n
}

var kinds = map[int32]func(int64) int64{0: sum, 1: large, 2: visits, 3: yields, 4: zigzag}

//go:wasmexport deep
func deep(kind int32, n int64) int64 { return kinds[kind](n) }

//go:noinline
func endless(n int64) int64 { return endless(n+1) + n }

//go:noinline
func endlessVisits(n int64) int64 { return endlessVisits(n+hostVisit(1)) + n }

//go:wasmexport forever
func forever(visit bool) int64 {
	if visit {
		debug.SetMaxStack(4 << 20) // a visit costs much
		return endlessVisits(0)
	}
	return endless(0)
}

// forever_later does it in a goroutine.
//
//go:wasmexport forever_later
func foreverLater() { time.AfterFunc(0, func() { endless(0) }) }

//go:wasmexport limit
func limit(bytes int64) { debug.SetMaxStack(int(bytes)) }

func main() { select {} }
