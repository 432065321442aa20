// Command events takes the same payloads as events, requests and calls, and calls the host; see benchmarks/events.py.
package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

var count, sum atomic.Int64

// take counts a payload and reads all of it.
func take(payload []byte) {
	var s int64
	for _, b := range payload {
		s += int64(b)
	}
	sum.Add(s)
	count.Add(1)
}

//go:wasmexport taken
func taken() int64 { return count.Load() }

//go:wasmexport summed
func summed() int64 { return sum.Load() }

//go:wasmexport take_string
func take_string(payload string) { take([]byte(payload)) }

func init() {
	guest.Handle("take", func(p []byte) ([]byte, error) {
		take(p)
		return nil, nil
	})
	// Goroutines call a handler for some milliseconds. Returns the number of calls, and the nanoseconds that they took.
	guest.Handle("calls", func(p []byte) ([]byte, error) {
		f := strings.Fields(string(p))
		goroutines, _ := strconv.Atoi(f[1])
		ms, _ := strconv.Atoi(f[2])
		payload := []byte("0123456789abcdef")
		var all sync.WaitGroup
		var calls atomic.Int64
		var failed atomic.Pointer[error]
		begin := time.Now()
		for range goroutines {
			all.Go(func() {
				for time.Since(begin) < time.Duration(ms)*time.Millisecond {
					if _, err := guest.Call(f[0], payload); err != nil {
						failed.Store(&err)
						return
					}
					calls.Add(1)
				}
			})
		}
		all.Wait()
		if err := failed.Load(); err != nil {
			return nil, *err
		}
		return fmt.Append(nil, calls.Load(), " ", time.Since(begin).Nanoseconds()), nil
	})
	go func() {
		for p := range guest.Events("take") {
			take(p)
		}
	}()
	go func() {
		for p := range guest.Events("notify") {
			guest.Notify("seen", p)
		}
	}()
	go func() {
		for p := range guest.Events("call") {
			guest.Call("seen", p)
		}
	}()
}

var burning atomic.Bool

// burn keeps that many processors busy until it is called with 0.
//
//go:wasmexport burn
func burn(goroutines int32) {
	burning.Store(goroutines > 0)
	for range goroutines {
		go func() {
			for x := uint64(1); burning.Load(); {
				for range 1000 {
					x = x*6364136223846793005 + 1442695040888963407
				}
				sum.Add(int64(x & 1)) // the sum is not read meanwhile
			}
		}()
	}
}

func main() { select {} }
