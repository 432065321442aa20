// Command talk calls the host and is told of events, in all the ways there are.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

var (
	received atomic.Int64
	sum      atomic.Int64
	ordered  atomic.Bool
	kept     struct {
		sync.Mutex
		payloads [][]byte
	}
)

func init() {
	ordered.Store(true)
	guest.Handle("call", func(p []byte) ([]byte, error) {
		name, payload, _ := bytes.Cut(p, []byte(" "))
		return guest.Call(string(name), payload)
	})
	guest.Handle("notify", func(p []byte) ([]byte, error) {
		name, payload, _ := bytes.Cut(p, []byte(" "))
		return nil, guest.Notify(string(name), payload)
	})
	// What kind of error a call ends with.
	guest.Handle("kind", func(p []byte) ([]byte, error) {
		_, err := guest.Call(string(p), nil)
		return []byte(kind(err)), nil
	})
	guest.Handle("impatient", func(p []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		_, err := guest.CallContext(ctx, string(p), nil)
		return fmt.Append(nil, err), nil
	})
	// So many calls at the same time, each with a number that must come back squared.
	guest.Handle("many", func(p []byte) ([]byte, error) {
		n, _ := strconv.Atoi(string(p))
		var all sync.WaitGroup
		var wrong atomic.Int64
		for i := range n {
			all.Go(func() {
				reply, err := guest.Call("square", strconv.AppendInt(nil, int64(i), 10))
				if err != nil || string(reply) != strconv.Itoa(i*i) {
					wrong.Add(1)
				}
			})
		}
		all.Wait()
		return fmt.Append(nil, wrong.Load()), nil
	})
	guest.Handle("seen", func(p []byte) ([]byte, error) {
		return fmt.Append(nil, received.Load(), " ", sum.Load(), " ", ordered.Load()), nil
	})
	guest.Handle("kept", func(p []byte) ([]byte, error) {
		kept.Lock()
		defer kept.Unlock()
		return bytes.Join(kept.payloads, []byte(",")), nil
	})
	guest.Handle("ticks", func(p []byte) ([]byte, error) { return fmt.Append(nil, ticks.Load()), nil })
	calls()
	inspection()
	go numbers()
	go texts()
}

var ticks atomic.Int64

// begin begins something that goes on after the export has returned: so many steps, each in another goroutine's turn.
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
			ticks.Add(1)
		}
	}()
}

// later counts after so many milliseconds.
//
//go:wasmexport later
func later(ms int32) {
	time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { ticks.Add(1) })
}

//go:wasmexport ticked
func ticked() int64 { return ticks.Load() }

// numbers receives events of two numbers: a sender's, and one that counts up for that sender.
func numbers() {
	last := map[uint32]uint32{}
	for e := range guest.Events("number") {
		sender, n := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
		if n != last[sender]+1 {
			ordered.Store(false)
		}
		last[sender] = n
		sum.Add(int64(n))
		received.Add(1)
	}
}

func texts() { keep(guest.Events("text")) }

func keep(events <-chan []byte) {
	for e := range events {
		kept.Lock()
		kept.payloads = append(kept.payloads, e)
		kept.Unlock()
	}
}

func main() { select {} }
