// Command hostcalls calls the host: with every type, from exports, main, inits and goroutines, many at a time, and in circles.
package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"hostcalls/other"
)

type celsius float64

//go:wasmimport env all
func hostAll(b bool, i int32, u uint32, j int64, v uint64, f float32, g float64, s string, p *byte, q unsafe.Pointer, r uintptr)

//go:wasmimport env bools
func hostBool(v bool) bool

//go:wasmimport env int32s
func hostInt32(v int32) int32

//go:wasmimport env uint32s
func hostUint32(v uint32) uint32

//go:wasmimport env int64s
func hostInt64(v int64) int64

//go:wasmimport env uint64s
func hostUint64(v uint64) uint64

//go:wasmimport env float32s
func hostFloat32(v float32) float32

//go:wasmimport env float64s
func hostFloat64(v celsius) celsius

//go:wasmimport env uintptrs
func hostUintptr(v uintptr) uintptr

//go:wasmimport env log
func hostLog(level int32, text string)

//go:wasmimport env text
func hostText(text string) uint32

// fill writes n bytes to p.
//
//go:wasmimport env fill
//go:noescape
func hostFill(p *byte, n int32)

//go:wasmimport env wide
func hostWide(a, b, c, d, e, f, g, h, i, j, k, l string) int64

//go:wasmimport env peek
func hostPeek(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t *byte) int32

//go:wasmimport env wait
func hostWait(n int32)

//go:wasmimport env enter
func hostEnter(depth int32) int32

//go:wasmimport elsewhere tick
func hostTick()

//go:wasmimport env unused
func hostUnused(a int32, b string) bool

// fdSync is WASI's, which may block here as it does in package os.
//
//go:wasmimport wasi_snapshot_preview1 fd_sync
func fdSync(fd int32) uint32

//go:wasmexport sync
func syncs(fd int32) uint32 { return fdSync(fd) }

//go:wasmexport all
func all() {
	x := [4]byte{1, 2, 3, 4}
	hostAll(true, -1, 1<<32-1, -1<<62, 1<<64-1, 1.5, -2.5, "größe", &x[0], unsafe.Pointer(&x[2]), 0xFFFFFFFE)
	runtime.KeepAlive(&x)
}

//go:wasmexport bools
func bools(v bool) bool { return hostBool(v) }

//go:wasmexport int32s
func int32s(v int32) int32 { return hostInt32(v) }

//go:wasmexport uint32s
func uint32s(v uint32) uint32 { return hostUint32(v) }

//go:wasmexport int64s
func int64s(v int64) int64 { return hostInt64(v) }

//go:wasmexport uint64s
func uint64s(v uint64) uint64 { return hostUint64(v) }

//go:wasmexport float32s
func float32s(v float32) float32 { return hostFloat32(v) }

//go:wasmexport float64s
func float64s(v float64) float64 { return float64(hostFloat64(celsius(v))) }

//go:wasmexport uintptrs
func uintptrs(v uintptr) uintptr { return hostUintptr(v) }

//go:wasmexport text
func text(v string) uint32 { return hostText(v) }

//go:wasmexport log
func log(level int32, text string) { hostLog(level, text) }

// lie passes a length that the memory does not have.
//
//go:wasmexport lie
func lie(n uint32) {
	x := []byte("short")
	hostText(unsafe.String(&x[0], int(n)))
}

// filled has the host write to memory of Go's heap, and of its stack.
//
//go:wasmexport filled
func filled(n int32) bool {
	var onStack [64]byte
	onHeap := make([]byte, n)
	hostFill(&onHeap[0], n)
	hostFill(&onStack[0], int32(len(onStack)))
	for i, b := range onHeap {
		if b != byte(i) {
			return false
		}
	}
	for i, b := range onStack {
		if b != byte(i) {
			return false
		}
	}
	return true
}

// wide passes strings that nothing else refers to.
//
//go:wasmexport wide
func wide(n int32) int64 {
	s := func(i int) string { return strings.Repeat(string(rune('a'+i)), int(n)) }
	return hostWide(s(0), s(1), s(2), s(3), s(4), s(5), s(6), s(7), s(8), s(9), s(10), s(11))
}

func block(fill byte) *byte {
	b := bytes.Repeat([]byte{fill}, 1000)
	return &b[0]
}

// peek passes 20 blocks of 1,000 bytes, 1 to 20, that nothing else refers to.
//
//go:wasmexport peek
func peek() int32 {
	return hostPeek(block(1), block(2), block(3), block(4), block(5), block(6), block(7), block(8), block(9), block(10),
		block(11), block(12), block(13), block(14), block(15), block(16), block(17), block(18), block(19), block(20))
}

//go:wasmexport collections
func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

// texts passes n strings that nothing else refers to, from each of so many goroutines; how many came out right.
//
//go:wasmexport texts
func texts(goroutines, n int32) int32 {
	var right atomic.Int32
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range n {
				size := uint32(1 + (g*31+i*17)%3000)
				if hostText(strings.Repeat(string(rune('a'+(g+i)%26)), int(size))) == size {
					right.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return right.Load()
}

// waits calls the host from n goroutines at the same time.
//
//go:wasmexport waits
func waits(n int32) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { hostWait(i) })
	}
	wg.Wait()
}

// enter goes depth levels down, each through the host.
//
//go:wasmexport enter
func enter(depth int32) int32 {
	if depth == 0 {
		return 0
	}
	return 1 + hostEnter(depth-1)
}

// entered is enter, from a goroutine.
//
//go:wasmexport entered
func entered(depth int32) int32 {
	result := make(chan int32)
	go func() { result <- enter(depth) }()
	return <-result
}

//go:wasmexport ticks
func ticks(n int32) {
	for range n {
		hostTick()
	}
}

//go:wasmexport elsewhere
func elsewhere() int32 { return other.Twice(21) }

// later calls the host from a goroutine, and blocks.
//
//go:wasmexport later
func later() {
	go hostTick()
	select {}
}

//go:wasmexport hang
func hang() { select {} }

var (
	collecting atomic.Bool
	garbage    atomic.Pointer[byte]
)

// collect runs the garbage collector all the time, with garbage.
//
//go:wasmexport collect
func collect(on bool) {
	if collecting.Swap(on) || !on {
		return
	}
	go func() {
		for collecting.Load() {
			for range 1000 {
				garbage.Store(block(0xFF))
			}
			runtime.GC()
		}
	}()
}

func init() {
	if os.Getenv("INIT") != "" {
		hostEnter(0)
	}
}

func main() {
	switch os.Getenv("MAIN") {
	case "tick":
		hostTick()
	case "":
		select {}
	}
}
