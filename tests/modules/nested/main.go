// Command nested calls Python when it starts, and in its exports, which Python may call from there.
package main

import (
	"os"
	"sync"
	"unsafe"
)

//go:wasmimport env started
func started()

//go:wasmimport env again
func again(n int32) int32

var (
	mu      sync.Mutex
	counted int64
)

func init() {
	if os.Getenv("SPIN") != "" {
		spin()
	}
}

//go:wasmexport start
func start() { started() }

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

// outer calls Python once.
//
//go:wasmexport outer
func outer(n int32) int32 { return again(n) }

// loop does so without end.
//
//go:wasmexport loop
func loop() {
	for {
		again(1)
	}
}

//go:wasmexport count
func count() int64 {
	mu.Lock()
	defer mu.Unlock()
	counted++
	return counted
}

//go:wasmexport panics
func panics() { panic("as told") }

// traps leaves what count needs in the middle of something.
//
//go:wasmexport traps
func traps() {
	mu.Lock()
	counted = 1000
	address := uintptr(0xFFFF0000) // outside the memory
	*(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) = 1
	counted = 0
	mu.Unlock()
}

// read is how many bytes of standard input there were.
//
//go:wasmexport read
func read() int32 {
	var b [16]byte
	n, _ := os.Stdin.Read(b[:])
	return int32(n)
}

func spin() {
	for x := 0; ; x++ {
	}
}

func main() {}
