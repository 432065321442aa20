// Models is a program whose behaviour depends on how it is run: run.py asks it the same questions under each model.
package main

import (
	"sync/atomic"
	"time"

	"gothreads/guest"
)

var (
	mainRuns atomic.Bool
	ticks    atomic.Int64
	counted  atomic.Int64
)

func main() {
	mainRuns.Store(true)
	select {}
}

// What is begun before any call: work in the background, and somebody who waits for events.
func init() {
	go func() {
		for range time.Tick(time.Millisecond) {
			ticks.Add(1)
		}
	}()
	go func() {
		for payload := range guest.Events("event") {
			guest.Notify("told", payload)
		}
	}()
}

//go:wasmexport main_runs
func main_runs() bool { return mainRuns.Load() }

// ticked is how far the work in the background has come: a step each millisecond, as long as the module runs.
//
//go:wasmexport ticked
func ticked() int64 { return ticks.Load() }

// begin begins something, and returns before it has happened: so many steps, each in another goroutine's turn.
//
//go:wasmexport begin
func begin(steps int32) {
	c := make(chan int32)
	go func() {
		for i := range steps {
			c <- i
		}
		close(c)
	}()
	go func() {
		for range c {
		}
		guest.Notify("told", []byte("begun"))
	}()
}

// later tells the host after so many milliseconds.
//
//go:wasmexport later
func later(ms int32) {
	time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { guest.Notify("told", []byte("timer")) })
}

// ask begins to ask the host, and returns. When the answer has come, it tells the host so.
//
//go:wasmexport ask
func ask() {
	go func() {
		guest.Call("slow", nil)
		guest.Notify("told", []byte("answer"))
	}()
}

// waits waits for the host's answer: it returns only then.
//
//go:wasmexport waits
func waits() { guest.Call("slow", nil) }

// computes takes so many steps, all on the processor.
//
//go:wasmexport computes
func computes(steps int64) uint64 {
	x := uint64(1)
	for range steps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// computes_behind begins that, and returns.
//
//go:wasmexport computes_behind
func computes_behind(steps int64) {
	go func() {
		if computes(steps) == 0 {
			panic("an odd number is not 0")
		}
	}()
}

// count counts its calls.
//
//go:wasmexport count
func count() int64 { return counted.Add(1) }

var handed = make(chan int64)

// receive waits for what another call sends, so many milliseconds at the most: then it is -1.
//
//go:wasmexport receive
func receive(ms int32) int64 {
	select {
	case n := <-handed:
		return n
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return -1
	}
}

//go:wasmexport send
func send(n int64, ms int32) {
	select {
	case handed <- n:
	case <-time.After(time.Duration(ms) * time.Millisecond):
	}
}

//go:wasmexport panics
func panics() { panic("on purpose") }
