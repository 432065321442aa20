// Command faults dies in every way there is, in every place that Go code runs in, while calls of every kind are in it.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"gothreads/guest"
)

// Kinds of faults -> what does it.
var kinds = map[string]func(){
	"panic":         func() { panic("on purpose") },
	"error":         func() { panic(fmt.Errorf("wrapped: %w", errors.New("on purpose"))) },
	"again":         func() { defer func() { panic("on purpose") }(); panic("before that") },
	"nil map":       func() { var m map[string]int; m["x"] = 1 },
	"nil pointer":   func() { fmt.Fprint(os.Stderr, *pointer) },
	"index":         func() { _ = os.Args[len(os.Args)+2] },
	"exit":          func() { os.Exit(3) },
	"exit 0":        func() { os.Exit(0) },
	"exit 2":        func() { os.Exit(2) },
	"goexit":        runtime.Goexit,
	"unreachable":   unreachable,
	"out of bounds": outOfBounds,
	"divide":        divide,
	"stack":         func() { deep(1 << 40) },
	"memory":        fill,
	"maps":          maps,
	"unlock":        func() { new(sync.Mutex).Unlock() },
	"threads":       threads,
	"host":          hostRaise,
	"return":        func() {},
	"spin":          spin,
}

var (
	pointer *int
	blocks  [][]byte
	orders  = make(chan string)
	release = make(chan struct{})
)

func unreachable()
func outOfBounds()
func divide()

//go:wasmimport env raises
func hostRaise()

//go:noinline
func deep(n int64) int64 {
	if n == 0 {
		return 0
	}
	return deep(n-1) + n
}

func fill() {
	for {
		b := make([]byte, 4<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		blocks = append(blocks, b)
	}
}

// maps writes to one map from many goroutines, until the runtime sees it.
func maps() {
	m := map[int]int{}
	for range 4 {
		go func() {
			for i := 0; ; i++ {
				m[i%100] = i
			}
		}()
	}
	select {}
}

func threads() {
	for range 100 {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	select {}
}

// do says what comes, and does it.
func do(kind string) {
	for i := range 100 {
		fmt.Printf("line %d\n", i)
	}
	fmt.Fprintln(os.Stderr, "last words")
	kinds[kind]()
}

func init() {
	if kind := os.Getenv("INIT"); kind != "" {
		do(kind)
	}
	guest.Handle("fault", func(p []byte) ([]byte, error) { <-release; do(string(p)); return nil, nil })
	guest.Handle("fault now", func(p []byte) ([]byte, error) { do(string(p)); return nil, nil })
	goes := guest.Events("go")
	go func() { <-goes; close(release) }()
	faults := guest.Events("fault")
	go func() {
		for e := range faults {
			do(string(e))
		}
	}()
}

//go:wasmexport start
func start() {
	if kind := os.Getenv("START"); kind != "" {
		do(kind)
	}
}

// fault_now does it at once; the others wait for the event "go".
//
//go:wasmexport fault_now
func faultNow(kind string) { do(kind) }

// trap_if takes no string, so that it can be called in C.
//
//go:wasmexport trap_if
func trapIf(really bool) {
	if really {
		unreachable()
	}
}

//go:wasmexport fault
func fault(kind string) {
	<-release
	do(kind)
}

//go:wasmexport fault_goroutine
func faultGoroutine(kind string) {
	go func() {
		<-release
		do(kind)
	}()
	<-never
}

//go:wasmexport fault_deferred
func faultDeferred(kind string) {
	defer do(kind)
	<-release
}

//go:wasmexport fault_timer
func faultTimer(kind string) {
	<-release
	time.AfterFunc(time.Millisecond, func() { do(kind) })
	<-never
}

//go:wasmexport fault_main
func faultMain(kind string) {
	<-release
	orders <- kind
	<-never
}

// fault_twice does two at the same moment, in two goroutines.
//
//go:wasmexport fault_twice
func faultTwice(one, other string) {
	for _, kind := range []string{one, other} {
		go func() {
			<-release
			do(kind)
		}()
	}
	<-never
}

// later does it when the call has returned.
//
//go:wasmexport fault_later
func faultLater(kind string, milliseconds int64) {
	time.AfterFunc(time.Duration(milliseconds)*time.Millisecond, func() { do(kind) })
}

// crowd has so many goroutines wait.
//
//go:wasmexport crowd
func crowd(n int32) {
	for range n {
		go func() { <-never }()
	}
}

// says writes to standard error.
//
//go:wasmexport says
func says(text string) { fmt.Fprintln(os.Stderr, text) }

func main() {
	if kind := os.Getenv("MAIN"); kind != "" {
		do(kind)
		return
	}
	do(<-orders)
}
