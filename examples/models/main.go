// Models is a program whose behaviour depends on the execution model: run.py measures it under each.
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

// init starts, before any call, background work and a goroutine that receives events.
func init() {
	go func() {
		for range time.Tick(time.Millisecond) {
			ticks.Add(1)
		}
	}()
	go func() {
		for payload := range guest.Events("event") {
			guest.Notify("happened", payload)
		}
	}()
}

//go:wasmexport main_runs
func main_runs() bool { return mainRuns.Load() }

// ticked is the progress of the background work: one step each millisecond, as long as the module runs.
//
//go:wasmexport ticked
func ticked() int64 { return ticks.Load() }

// begin starts work of that many steps, and returns before it is done. Each step switches to another goroutine.
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
		guest.Notify("happened", []byte("begun"))
	}()
}

// later notifies the host after ms milliseconds.
//
//go:wasmexport later
func later(ms int32) {
	time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { guest.Notify("happened", []byte("timer")) })
}

// ask starts a call of the host, and returns. When the answer has come, it notifies the host.
//
//go:wasmexport ask
func ask() {
	go func() {
		guest.Call("slow", nil)
		guest.Notify("happened", []byte("answer"))
	}()
}

// waits calls the host, and returns when the answer has come.
//
//go:wasmexport waits
func waits() { guest.Call("slow", nil) }

// computes runs a CPU-bound loop of that many steps.
//
//go:wasmexport computes
func computes(steps int64) uint64 {
	x := uint64(1)
	for range steps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// computes_behind starts computes on a goroutine, and returns.
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

var numbers = make(chan int64)

// receive waits for the number that another call sends. After ms milliseconds it returns -1.
//
//go:wasmexport receive
func receive(ms int32) int64 {
	select {
	case n := <-numbers:
		return n
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return -1
	}
}

//go:wasmexport send
func send(n int64, ms int32) {
	select {
	case numbers <- n:
	case <-time.After(time.Duration(ms) * time.Millisecond):
	}
}

//go:wasmexport panics
func panics() { panic("on purpose") }
