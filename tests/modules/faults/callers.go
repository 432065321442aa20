package main

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

// Calls that never end by themselves: what else is in the module when it dies.

var (
	never  = make(chan int)
	nobody = make(chan int)
	mutex  sync.Mutex
	rows   = sync.NewCond(&mutex)
	group  sync.WaitGroup
	inside atomic.Int32
	kept   atomic.Pointer[string]
)

func init() {
	guest.Handle("hang", func([]byte) ([]byte, error) { inside.Add(1); return nil, <-make(chan error) })
	guest.Handle("echo", func(p []byte) ([]byte, error) { return p, nil })
	guest.Handle("ask", func(p []byte) ([]byte, error) { inside.Add(1); return guest.Call(string(p), nil) })
	group.Add(1)
}

//go:wasmimport env block
func hostBlock()

//go:wasmimport env close
func hostClose()

// there are so many calls in, of those that never end.
//
//go:wasmexport there
func there() int32 { return inside.Load() }

//go:wasmexport spin
func spin() {
	inside.Add(1)
	for x := 0; ; x++ {
	}
}

//go:wasmexport churn
func churn() {
	inside.Add(1)
	for n := 0; ; n++ {
		s := strings.Repeat("x", n%5000)
		kept.Store(&s)
	}
}

//go:wasmexport receive
func receive() { inside.Add(1); <-never }

//go:wasmexport send
func send() { inside.Add(1); nobody <- 1 }

//go:wasmexport choose
func choose() { inside.Add(1); select {} }

//go:wasmexport lock
func lock() {
	var own sync.Mutex
	own.Lock()
	inside.Add(1)
	own.Lock()
}

//go:wasmexport condition
func condition() {
	mutex.Lock()
	inside.Add(1)
	rows.Wait()
}

//go:wasmexport gather
func gather() { inside.Add(1); group.Wait() }

//go:wasmexport sleep
func sleep() { inside.Add(1); time.Sleep(time.Hour) }

//go:wasmexport block
func block() { inside.Add(1); hostBlock() }

// closes has the host close the app, from inside.
//
//go:wasmexport closes
func closes() { hostClose() }

//go:wasmexport plus
func plus(a, b int32) int32 { return a + b }
