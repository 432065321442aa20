package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"gothreads/guest"
)

var (
	bumped int64
	held   atomic.Pointer[[]byte]
	stuck  = make(chan struct{})
)

// inspection registers what shows the module's state, and what ends it.
func inspection() {
	guest.Handle("collect", func(p []byte) ([]byte, error) {
		for range 5 {
			block := make([]byte, 1<<20)
			held.Store(&block)
			runtime.GC()
		}
		return nil, nil
	})
	// How many objects are on the heap, and how many goroutines there are.
	guest.Handle("heap", func(p []byte) ([]byte, error) {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return fmt.Append(nil, stats.HeapObjects, " ", runtime.NumGoroutine()), nil
	})
	guest.Handle("die", func(p []byte) ([]byte, error) {
		how, words, _ := bytes.Cut(p, []byte(" "))
		fmt.Fprintf(os.Stderr, "%s\n", words)
		die(string(how))
		return nil, nil
	})
	// "NAME": receives the events of one more name, which are kept as those of text are.
	guest.Handle("receive", func(p []byte) ([]byte, error) {
		go keep(guest.Events(string(p)))
		return nil, nil
	})
	// How many names of so many can be had.
	guest.Handle("names", func(p []byte) (reply []byte, err error) {
		n, _ := strconv.Atoi(string(p))
		had := 0
		defer func() { reply = fmt.Append(nil, had, " ", recover()) }()
		for i := range n {
			guest.Events(fmt.Sprint("name ", i))
			had++
		}
		return
	})
	// Begins what fails, and is an error itself.
	guest.Handle("fail", func(p []byte) ([]byte, error) {
		begin(10)
		return nil, fmt.Errorf("failed: %s", p)
	})
	guest.Handle("hang", func(p []byte) ([]byte, error) {
		<-stuck
		return nil, nil
	})
}

func die(how string) {
	switch how {
	case "panic":
		panic("as told")
	case "exit":
		os.Exit(3)
	case "trap": // an address outside the memory
		address := uintptr(0xFFFF0000)
		*(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) = 1
	}
}

// dieLater traps after so many milliseconds, when no call is in.
//
//go:wasmexport dieLater
func dieLater(ms int32) { time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { die("trap") }) }

//go:wasmexport bump
func bump() int64 {
	bumped++
	return bumped
}

// spin begins what never waits.
//
//go:wasmexport spin
func spin() {
	go func() {
		for n := 0; ; n++ {
			ticks.Store(int64(n))
		}
	}()
}

// expect_signals asks Go for signals, and returns.
//
//go:wasmexport expect_signals
func expect_signals() {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
}
