// Command prepares registers handlers late: after what the variable BEFORE says, as mains do that set things up first.
package main

import (
	"bytes"
	"os"
	"runtime"
	"sync"
	"time"

	"gothreads/guest"
)

//go:wasmimport env ask
func ask()

//go:wasmexport crash
func crash() { panic("crashed") }

//go:wasmexport spin
func spin() {
	for {
	}
}

func upper(p []byte) ([]byte, error) { return bytes.ToUpper(p), nil }

func compute(d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; {
	}
}

// collect makes the collector run, and waits for it.
func collect() {
	var kept [][]byte
	for range 100 {
		kept = append(kept, make([]byte, 64<<10))
	}
	runtime.GC()
	runtime.KeepAlive(kept)
}

// together runs on other goroutines, while the caller waits.
func together() {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { compute(10 * time.Millisecond) })
	}
	wg.Wait()
}

func init() {
	if os.Getenv("BEFORE") == "goroutine" {
		go guest.Handle("begun", upper)
	}
	guest.Handle("early", upper)
}

func main() {
	switch os.Getenv("BEFORE") {
	case "compute":
		compute(100 * time.Millisecond)
	case "collect":
		collect()
	case "together":
		together()
	case "print":
		for range 100 {
			os.Stdout.WriteString("preparing\n")
		}
	case "sleep":
		time.Sleep(50 * time.Millisecond)
	case "timer":
		<-time.After(50 * time.Millisecond)
	case "call":
		for range 3 {
			guest.Call("config", nil)
		}
	case "ask":
		ask()
	case "spin":
		spin()
	case "stop":
		compute(20 * time.Millisecond)
		guest.Handle("stop", func([]byte) ([]byte, error) { os.Stdout.WriteString("stopped\n"); return nil, nil })
	}
	guest.Handle("upper", upper)
	for range guest.Events("more") {
	}
}
