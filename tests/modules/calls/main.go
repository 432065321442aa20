// Command calls is what most tests call: exports of every type, that compute, allocate, block, panic and exit, and
// handlers, while main serves a channel.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"gothreads/guest"
)

var (
	requests = make(chan request)
	kept     sync.Map
	counter  atomic.Int64
)

type request struct {
	n     int64
	reply chan int64
}

func init() {
	guest.Handle("echo", func(p []byte) ([]byte, error) { return p, nil })
	guest.Handle("upper", func(p []byte) ([]byte, error) { return []byte(strings.ToUpper(string(p))), nil })
	guest.HandleLent("reverse", func(p []byte) ([]byte, error) {
		if len(p) == 1 {
			return nil, errors.New("one byte is the same backwards")
		}
		slices.Reverse(p)
		return p[:len(p):len(p)], nil
	})
	guest.Handle("fail", func(p []byte) ([]byte, error) { return nil, errors.New("no: " + string(p)) })
	guest.Handle("panic", func(p []byte) ([]byte, error) { panic(string(p)) })
	guest.Handle("keep", func(p []byte) ([]byte, error) {
		n := counter.Add(1)
		kept.Store(n, p)
		return fmt.Appendf(nil, "%d", n), nil
	})
	guest.Handle("kept", func(p []byte) ([]byte, error) {
		var n int64
		fmt.Sscan(string(p), &n)
		v, ok := kept.Load(n)
		if !ok {
			return nil, fmt.Errorf("nothing is kept as %d", n)
		}
		return v.([]byte), nil
	})
}

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

//go:wasmexport int32s
func int32s(v int32) int32 { return v }

//go:wasmexport uint32s
func uint32s(v uint32) uint32 { return v }

//go:wasmexport int64s
func int64s(v int64) int64 { return v }

//go:wasmexport uint64s
func uint64s(v uint64) uint64 { return v }

//go:wasmexport float32s
func float32s(v float32) float32 { return v }

//go:wasmexport float64s
func float64s(v float64) float64 { return v }

//go:wasmexport bools
func bools(v bool) bool { return !v }

//go:wasmexport uintptrs
func uintptrs(v uintptr) uintptr { return v }

// length is in bytes.
//
//go:wasmexport length
func length(s string) int64 { return int64(len(s)) }

//go:wasmexport compare
func compare(a string, n int32, b string) int32 { return n * int32(strings.Compare(a, b)) }

//go:wasmexport remember
func remember(s string) int64 {
	n := counter.Add(1)
	kept.Store(n, s)
	return n
}

//go:wasmexport same
func same(n int64, s string) bool {
	v, _ := kept.Load(n)
	return v == any(s)
}

func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

//go:wasmexport fib
func fib(n int32) int64 { return int64(fibonacci(int(n))) }

// ask blocks until main has answered.
//
//go:wasmexport ask
func ask(n int64) int64 {
	reply := make(chan int64)
	requests <- request{n, reply}
	return <-reply
}

//go:wasmexport count
func count() int64 { return counter.Add(1) }

// hangups handles SIGHUP from the first call on, and says how many have come.
//
//go:wasmexport hangups
func hangups() int64 { return hangUps().Load() }

var hangUps = sync.OnceValue(func() *atomic.Int64 {
	count, signals := new(atomic.Int64), make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for range signals {
			count.Add(1)
		}
	}()
	return count
})

//go:wasmexport hang
func hang() { select {} }

//go:wasmexport spin
func spin() {
	for x := 0; ; x++ {
	}
}

// contend has goroutines wait for each other's lock, so often.
//
//go:wasmexport contend
func contend(times int32) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range times {
				mu.Lock()
				time.Sleep(time.Millisecond)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

//go:wasmexport sleep
func sleep(milliseconds int64) { time.Sleep(time.Duration(milliseconds) * time.Millisecond) }

//go:wasmexport churn
func churn(n int32) int64 {
	var total int64
	for i := range n {
		total += int64(len(fmt.Sprintf("%d-%s", i, strings.Repeat("x", int(i%50)))))
	}
	return total
}

//go:wasmexport deep
func deep(n int64) int64 {
	var pad [64]byte
	pad[n%64] = 1
	if n == 0 {
		return 0
	}
	return deep(n-1) + int64(pad[n%64])
}

//go:noinline
func large(n int) int {
	var frame [6000]byte
	frame[n] = 1
	return deeper(n) + int(frame[n])
}

//go:noinline
func larger(n int) int {
	var frame [100_000]byte
	frame[n] = 1
	return deeper(n) + int(frame[n])
}

//go:noinline
func deeper(n int) int {
	var frame [500]byte
	frame[n%500] = 1
	return int(frame[n%500])
}

// frames calls functions with large frames from new goroutines, whose stacks are small, just after a garbage collection
// has asked them to stop. Built without preemption in loops, their own first check is that of the large frame.
//
//go:wasmexport frames
func frames(times int32) int64 {
	var total int64
	for n := range int(times) {
		var spinning atomic.Bool
		done := make(chan int)
		go func() {
			spinning.Store(true)
			x := 0
			for i := range 3_000_000 {
				x += i * i
			}
			if n%2 == 0 {
				done <- large(x & 1)
			} else {
				done <- larger(x & 1)
			}
		}()
		for !spinning.Load() {
			runtime.Gosched()
		}
		runtime.GC()
		total += int64(<-done)
	}
	return total
}

var collecting atomic.Bool

// collect runs the garbage collector all the time.
//
//go:wasmexport collect
func collect(on bool) {
	if collecting.Swap(on) || !on {
		return
	}
	go func() {
		for collecting.Load() {
			runtime.GC()
		}
	}()
}

//go:wasmexport collections
func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

//go:wasmexport heap
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

//go:wasmexport panics
func panics() {
	var m map[string]int
	m["x"] = 1
}

// beyond is an address that no memory has.
var beyond uintptr = 0xffff0000

//go:wasmexport traps
func traps() int32 { return int32(*(*byte)(unsafe.Pointer(beyond))) }

//go:wasmexport panics_elsewhere
func panicsElsewhere() {
	go func() { panic("elsewhere") }()
	select {}
}

//go:wasmexport exits
func exits(code int32) { os.Exit(int(code)) }

//go:wasmexport goexits
func goexits() { runtime.Goexit() }

// locked starts goroutines that end while locked to their threads: the threads end too.
//
//go:wasmexport locked
func locked(n int32) int32 {
	var wg sync.WaitGroup
	var done atomic.Int32
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.LockOSThread()
			time.Sleep(time.Millisecond)
			done.Add(1)
		}()
	}
	wg.Wait()
	return done.Load()
}

//go:wasmexport procs
func procs() int32 { return int32(runtime.GOMAXPROCS(0)) }

//go:wasmexport write
func write(text string, times int32) {
	for range times {
		os.Stdout.WriteString(text)
	}
}

//go:wasmexport fill
func fill(megabytes int64) int64 {
	var blocks [][]byte
	for range megabytes {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		blocks = append(blocks, b)
	}
	return int64(len(blocks))
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "env" {
		fmt.Println(os.Args[2:], os.Getenv("NAME"))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "cat" {
		line := make([]byte, 1<<10)
		for {
			n, err := os.Stdin.Read(line)
			os.Stdout.Write(line[:n])
			if err != nil {
				return
			}
		}
	}
	if len(os.Args) > 1 && os.Args[1] == "exit" {
		fmt.Fprintln(os.Stderr, "going")
		os.Exit(7)
	}
	for r := range requests {
		r.reply <- 2 * r.n
	}
}
