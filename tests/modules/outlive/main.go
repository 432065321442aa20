// The module of tests/typed/test_message_memory.py: functions that keep their arguments, and functions that do not.
package main

import (
	"context"
	"encoding/binary"
	"iter"
	"math"
	"runtime"
	"strconv"
	"sync/atomic"
	"unsafe"

	"gothreads/guest"
)

func main() { select {} }

func init() {
	guest.HandleLent("address", func(payload []byte) ([]byte, error) {
		return strconv.AppendUint(nil, AddressOfBytes(payload), 10), nil
	})
	guest.HandleLent("echo", func(payload []byte) ([]byte, error) { return payload, nil })
	guest.Handle("keep", func(payload []byte) ([]byte, error) {
		KeepBytes(payload)
		return nil, nil
	})
}

// held returns what a function has kept.
var (
	held func() []float64
	kept []float64
)

func keep(x []float64) {
	kept = x
	held = func() []float64 { return kept }
}

//gothreads:export
func Held() []float64 { return held() }

// ---- functions that keep all that they get, or a part

//gothreads:export
func KeepIt(x []float64) { keep(x) }

//gothreads:export
func KeepInClosure(x []float64) { held = func() []float64 { return x } }

//gothreads:export
func KeepInGoroutine(x []float64) {
	reply := make(chan []float64)
	held = func() []float64 { return <-reply }
	go func() { reply <- append([]float64(nil), x...) }()
}

//gothreads:export
func KeepInChannel(x []float64) {
	channel := make(chan []float64, 1)
	held = func() []float64 { return <-channel }
	channel <- x
}

type keeper interface{ keep(x []float64) }

type plain struct{}

func (plain) keep(x []float64) { keep(x) }

type box struct{ x []float64 }

func (b *box) keep(x []float64) {
	b.x = x
	held = func() []float64 { return b.x }
}

var keepers = []keeper{plain{}, &box{}}

//gothreads:export
func KeepByInterface(x []float64) { keepers[0].keep(x) }

//gothreads:export
func KeepInObject(x []float64) { keepers[1].keep(x) }

var keepVariable = keep

//gothreads:export
func KeepByVariable(x []float64) { keepVariable(x) }

func keepPart[T any](x []T, into *[]T) { *into = x[:len(x):len(x)] }

//gothreads:export
func KeepByGeneric(x []float64) {
	keepPart(x, &kept)
	held = func() []float64 { return kept }
}

// KeepRarely keeps its argument only if it is told to.
//
//gothreads:export
func KeepRarely(x []float64, really bool) {
	if really {
		keep(x)
	}
}

//gothreads:export
func KeepByPanic(x []float64) {
	defer func() { keep(recover().([]float64)) }()
	panic(x)
}

// Table has numbers in several places.
type Table struct {
	Name  string
	Count int
	X, Y  []float64
	Rows  [][]float64
	Raw   []byte
	Inner *Inner
}

// Inner is a part of a table.
type Inner struct {
	Z []float64
}

//gothreads:export
func KeepField(t Table) { keep(t.X) }

//gothreads:export
func KeepRaw(t Table) { held = func() []float64 { return numbers(t.Raw) } }

//gothreads:export
func KeepRow(t Table) { keep(t.Rows[len(t.Rows)-1]) }

//gothreads:export
func KeepInner(t Table) {
	inner := t.Inner
	held = func() []float64 { return inner.Z }
}

//gothreads:export
func KeepByPointer(t *Table) { keep(t.Y) }

//gothreads:export
func KeepOfMany(tables []Table) { keep(tables[0].Inner.Z) }

//gothreads:export
func (t Table) KeepMine() { keep(t.Rows[0]) }

//gothreads:export
func KeepSecond(x, y []float64) float64 {
	keep(y)
	return x[0]
}

//gothreads:export
func KeepAny(x any) { keep(x.([]any)[1].([]float64)) }

//gothreads:export
func KeepInAny(x []float64, y any) float64 {
	keep(y.(map[string]any)["y"].([]any)[1].([]float64))
	return x[0]
}

//gothreads:export
func KeepEntry(m map[string][]float64) {
	for _, x := range m {
		keep(x)
	}
}

//gothreads:export
func KeepBytes(x []byte) { held = func() []float64 { return numbers(x) } }

//gothreads:export
func KeepText(x []byte) {
	text := unsafe.String(unsafe.SliceData(x), len(x))
	held = func() []float64 { return numbers([]byte(text)) }
}

//gothreads:export
func KeepAddress(x []float64) {
	first := &x[0]
	held = func() []float64 { return unsafe.Slice(first, 100_000) }
}

func numbers(data []byte) (x []float64) {
	for ; len(data) > 0; data = data[8:] {
		x = append(x, math.Float64frombits(binary.LittleEndian.Uint64(data)))
	}
	return x
}

// Items yields its argument, while other calls are made.
//
//gothreads:export
func Items(x []float64) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		for _, item := range x {
			if !yield(item) {
				return
			}
		}
	}
}

//gothreads:export
func Sent(x []float64) <-chan float64 {
	channel := make(chan float64)
	go func() {
		defer close(channel)
		for _, item := range x {
			channel <- item
		}
	}()
	return channel
}

// Same returns its argument.
//
//gothreads:export
func Same(x []float64) []float64 { return x }

// ---- functions that keep nothing

//gothreads:export
func Sum(x []float64) (sum float64) {
	for _, item := range x {
		sum += item
	}
	return sum
}

func address(x []float64) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(x)))) }

// Address says where its argument lies.
//
//gothreads:export
func Address(x []float64) uint64 { return address(x) }

//gothreads:export
func AddressOfSecond(_, x []float64) uint64 { return address(x) }

//gothreads:export
func AddressOfBytes(x []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(x)))) }

//gothreads:export
func AddressInContext(ctx context.Context, x []float64) (uint64, error) { return address(x), ctx.Err() }

// AddressAndPanic panics, which is over when it returns.
//
//gothreads:export
func AddressAndPanic(x []float64) (at uint64) {
	defer func() { recover() }()
	at = address(x)
	return uint64(x[len(x)])
}

var (
	gate, done = make(chan bool), make(chan float64, 1)
	late       atomic.Int32
)

// Late says how many calls of SumLate have begun.
//
//gothreads:export
func Late() int { return int(late.Load()) }

// SumLate sums its argument when Open is called.
//
//gothreads:export
func SumLate(x []float64) {
	late.Add(1)
	<-gate
	done <- Sum(x)
}

// Open lets SumLate go on, and returns the sum.
//
//gothreads:export
func Open() float64 {
	gate <- true
	return <-done
}

// SumAfter calls Python before it sums.
//
//gothreads:export
func SumAfter(x []float64, during func() error) (float64, error) {
	err := during()
	return Sum(x), err
}

//gothreads:export
func Collect() { runtime.GC() }

// Live returns how many bytes there are after a collection.
//
//gothreads:export
func Live() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
