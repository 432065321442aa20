// Command patient is called by those who do not wait for ever: handlers with and without a context, and exports that take long.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

//go:wasmimport env call_again
func callAgain(n int32) int32

var (
	waiting, cancelled, done atomic.Int64
	release                  = make(chan struct{})
	why                      atomic.Value // of the last one that was cancelled: its context's error
)

func init() {
	// Waits until nobody waits for it, and says why it ended.
	guest.HandleContext("wait", func(ctx context.Context, p []byte) ([]byte, error) {
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case <-ctx.Done():
			if context.Cause(ctx) != guest.ErrNobodyWaits {
				panic(fmt.Sprint("another cause: ", context.Cause(ctx)))
			}
			why.Store(ctx.Err().Error())
			cancelled.Add(1)
			return []byte("late"), nil
		case <-release:
			return p, nil
		}
	})
	guest.Handle("why", func(p []byte) ([]byte, error) { return []byte(why.Load().(string)), nil })
	// How many seconds its context still has, after Python has had a request to echo on the same slot.
	guest.HandleContext("left", func(ctx context.Context, p []byte) ([]byte, error) {
		if len(p) > 0 {
			callAgain(7)
		}
		deadline, ok := ctx.Deadline()
		return fmt.Appendf(nil, "%t %.3f", ok, time.Until(deadline).Seconds()), nil
	})
	// Answers at once; its context lives as long as it runs.
	guest.HandleContext("echo", func(ctx context.Context, p []byte) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			cancelled.Add(1)
			return nil, err
		}
		return p, nil
	})
	// Asks Python to call echo on the same slot, where there is only one, and then waits.
	guest.HandleContext("nested", func(ctx context.Context, p []byte) ([]byte, error) {
		if callAgain(7) != 7 {
			return nil, errors.New("the inner call went wrong")
		}
		waiting.Add(1)
		defer waiting.Add(-1)
		<-ctx.Done()
		cancelled.Add(1)
		return nil, ctx.Err()
	})
	guest.Handle("plain", func(p []byte) ([]byte, error) {
		waiting.Add(1)
		defer waiting.Add(-1)
		<-release
		done.Add(1)
		return p, nil
	})
	guest.Handle("counts", func(p []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%d %d %d", waiting.Load(), cancelled.Load(), done.Load()), nil
	})
	guest.Handle("release", func(p []byte) ([]byte, error) {
		for waiting.Load() > 0 {
			select {
			case release <- struct{}{}:
			default:
				runtime.Gosched()
			}
		}
		return nil, nil
	})
	guest.Handle("panic", func(p []byte) ([]byte, error) { panic("on request") })
}

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

//go:wasmexport spin
func spin() {
	for x := 0; ; x++ {
	}
}

//go:wasmexport sleep
func sleep(milliseconds int64) int64 {
	waiting.Add(1)
	defer waiting.Add(-1)
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	return done.Add(1)
}

//go:wasmexport again
func again(n int32) int32 { return callAgain(n) }

//go:wasmexport write
func write(n int64) {
	line := []byte("0123456789abcde\n")
	for range n {
		os.Stdout.Write(line)
	}
}

// shout writes long lines of one letter.
//
//go:wasmexport shout
func shout(letter, times int32) {
	for range times {
		fmt.Println(strings.Repeat(string(rune('a'+letter)), 40_000))
	}
}

// openFiles opens the file of that name n times, and says how often that went well before it went wrong.
//
//go:wasmexport open_files
func openFiles(name string, n int64) int64 { return withFiles(name, n, func() {}) }

// holdFiles is openFiles, with a call of Python before they are closed.
//
//go:wasmexport hold_files
func holdFiles(name string, n int64) int64 { return withFiles(name, n, func() { callAgain(0) }) }

func withFiles(name string, n int64, do func()) int64 {
	var files []*os.File
	defer func() {
		do()
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range n {
		f, err := os.Open(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return i
		}
		files = append(files, f)
	}
	return n
}

func main() { select {} }
