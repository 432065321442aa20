// Command chaos answers numbered calls in every way there is, until it is made to die.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

//go:wasmimport env ran
func hostRan(id int64)

//go:wasmimport env again
func hostAgain(id int64) int64

//go:wasmimport env fails
func hostFails()

type question struct {
	id    int64
	reply chan int64
}

var (
	questions = make(chan question)
	table     sync.Map
	received  atomic.Int64
	sum       atomic.Int64
)

// answer is the answer that the host expects for a number.
func answer(id int64) int64 { return id*2654435761 ^ 0x5bd1e995 }

func init() {
	go func() { // not in main, which does not run in every model
		for q := range questions {
			q.reply <- answer(q.id)
		}
	}()
	go func() {
		for event := range guest.Events("number") {
			sum.Add(int64(binary.LittleEndian.Uint64(event)))
			received.Add(1)
		}
	}()
	guest.Handle("answer", func(p []byte) ([]byte, error) {
		id := int64(binary.LittleEndian.Uint64(p))
		hostRan(id)
		return binary.LittleEndian.AppendUint64(p, uint64(answer(id))), nil
	})
	guest.HandleContext("patient", func(ctx context.Context, p []byte) ([]byte, error) {
		id := int64(binary.LittleEndian.Uint64(p))
		hostRan(id)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(id%7) * time.Millisecond):
			return binary.LittleEndian.AppendUint64(p, uint64(answer(id))), nil
		}
	})
	guest.Handle("ask", func(p []byte) ([]byte, error) {
		hostRan(int64(binary.LittleEndian.Uint64(p)))
		return guest.Call("answer", p)
	})
	guest.Handle("events", func([]byte) ([]byte, error) { return fmt.Append(nil, received.Load(), " ", sum.Load()), nil })
	guest.Handle("panic", func([]byte) ([]byte, error) { panic("in a handler") })
}

// work answers in one of several ways.
//
//go:wasmexport work
func work(id int64, way int32) int64 {
	hostRan(id)
	switch way {
	case 1:
		time.Sleep(time.Duration(id%5) * time.Millisecond)
	case 2:
		q := question{id, make(chan int64)}
		questions <- q
		return <-q.reply
	case 3:
		table.Store(id, strings.Repeat("x", int(id%5000)))
		defer table.Delete(id)
		if id%16 == 0 {
			runtime.GC()
		}
	case 4:
		return hostAgain(id)
	case 5:
		done := make(chan int64, 8)
		for range 8 {
			go func() { done <- 1 }()
		}
		for range 8 {
			<-done
		}
	case 6:
		for x := range id % 200_000 {
			sum.Add(x & 0)
		}
	}
	return answer(id)
}

//go:noinline
func deep(n int64) int64 {
	if n == 0 {
		return 0
	}
	return deep(n-1) + n
}

// die ends the module, in one of many ways.
//
//go:wasmexport die
func die(way string) {
	switch way {
	case "panic":
		panic("on purpose")
	case "goroutine":
		go func() { panic("elsewhere") }()
		select {}
	case "exit":
		os.Exit(3)
	case "stack":
		deep(1 << 40)
	case "memory":
		var blocks [][]byte
		for {
			b := make([]byte, 8<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			blocks = append(blocks, b)
		}
	case "map":
		m := map[int]int{}
		for range 4 {
			go func() {
				for i := 0; ; i++ {
					m[i%100] = i
				}
			}()
		}
		select {}
	case "host":
		hostFails()
	case "output":
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	}
}

//go:wasmexport spin
func spin() {
	for x := 0; ; x++ {
	}
}

//go:wasmexport hang
func hang() { select {} }

func main() { select {} }
