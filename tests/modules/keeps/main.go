// Command keeps counts, and gives its count away and takes it: save and load. How it starts, loads and takes events, the
// host plans (the handler `plan`, if it has one). It fails in every way, when asked to.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"gothreads/guest"
)

var (
	total  atomic.Int64
	loaded atomic.Bool
	calls  atomic.Int64 // since the start, before `load` too
)

// follow does what the host has planned for this moment.
func follow(moment string) error {
	plan, err := guest.Call("plan", []byte(moment))
	if err != nil {
		return nil
	}
	switch string(plan) {
	case "panic":
		panic("as planned")
	case "exit":
		os.Exit(3)
	case "leave":
		os.Exit(0)
	case "hang":
		select {}
	case "refuse":
		return errors.New("as planned")
	}
	return nil
}

//go:wasmexport start
func start() { follow("start") }

func init() {
	guest.Handle("save", func(p []byte) ([]byte, error) {
		if err := follow("save"); err != nil {
			return nil, err
		}
		return strconv.AppendInt(nil, total.Load(), 10), nil
	})
	if os.Getenv("EARLY") != "" { // where main does not run
		guest.Handle("load", load)
	}
	guest.Handle("echo", func(p []byte) ([]byte, error) { return p, nil })
}

func load(p []byte) ([]byte, error) {
	if err := follow("load"); err != nil {
		return nil, err
	}
	if calls.Load() != 0 {
		return nil, errors.New("a call came before the state")
	}
	n, err := strconv.ParseInt(string(p), 10, 64)
	total.Store(n)
	loaded.Store(true)
	return nil, err
}

func main() {
	// After a while, as a main that sets things up first does.
	time.Sleep(20 * time.Millisecond)
	if os.Getenv("EARLY") == "" {
		guest.Handle("load", load)
	}
	guest.Handle("late", func(p []byte) ([]byte, error) { return p, nil })
	go func() {
		for range guest.Events("more") {
			follow("more")
			total.Add(1)
		}
	}()
	select {}
}

//go:wasmexport add
func add(n int64) int64 {
	calls.Add(1)
	return total.Add(n)
}

//go:wasmexport double
func double(n int64) int64 {
	calls.Add(1)
	return 2 * n
}

//go:wasmexport hasloaded
func hasloaded() bool { return loaded.Load() }

//go:wasmexport hang
func hang() { select {} }

//go:wasmexport crash
func crash() { panic("crashed") }

//go:wasmexport exit
func exit(code int32) { os.Exit(int(code)) }

// beyond is an address that no memory has.
var beyond uintptr = 0xffff0000

//go:wasmexport trap
func trap() int32 { return int32(*(*byte)(unsafe.Pointer(beyond))) }

//go:wasmimport env raise
func raise()

//go:wasmexport hostraise
func hostraise() { raise() }

//go:wasmimport env within
func within(n int64) int64

//go:wasmexport hostwithin
func hostwithin(n int64) int64 { return within(n) }

//go:wasmexport later
func later(milliseconds int64) {
	time.AfterFunc(time.Duration(milliseconds)*time.Millisecond, func() { panic(fmt.Sprintf("after %d ms", milliseconds)) })
}
