// Command lines traps, in functions of different kinds. Comments mark the lines that errors are to tell.
package main

import (
	"strings"
	"time"
	"unsafe"

	"gothreads/guest"
)

// beyond is an address that no memory has.
var beyond uintptr = 0xffff0000

type shelf struct{ items []int }

// load is inlined.
func load(address uintptr) int {
	n := 1
	n += *(*int)(unsafe.Pointer(address)) // load
	n *= 3
	return n
}

// add is inlined, too.
func (s *shelf) add(address uintptr) {
	s.items = append(s.items, 7)
	n := load(address) // add
	s.items = append(s.items, n)
}

//go:noinline
func fill(words string) int {
	s := new(shelf)
	for _, word := range strings.Fields(words) {
		if word == "trap" {
			s.add(beyond) // fill
		}
		s.items = append(s.items, len(word))
	}
	return len(s.items)
}

//go:wasmexport filled
func filled(trap bool) int32 {
	if !trap {
		return int32(fill("one two"))
	}
	return int32(fill("one trap two")) // filled
}

func divide() // in lines_wasm.s

//go:wasmexport divides
func divides() {
	divide() // divides
}

//go:noinline
func deep(n int64) int64 {
	if n == 0 {
		return 0
	}
	return deep(n-1) + n // deep
}

//go:wasmexport recurses
func recurses(n int64) int64 { return deep(n) }

//gothreads:export
func Typed(words string) int {
	return fill(words) // typed
}

//gothreads:export
func Panics(words []string) string {
	return words[len(words)] // panics
}

func init() {
	guest.Handle("fill", func(words []byte) ([]byte, error) {
		n := fill(string(words)) // handler
		return []byte{byte(n)}, nil
	})
	guest.Handle("resumed", func(words []byte) ([]byte, error) {
		time.Sleep(time.Millisecond) // the goroutine goes on elsewhere on WebAssembly's stack
		n := fill(string(words))     // resumed
		return []byte{byte(n)}, nil
	})
	guest.Handle("goroutine", func(words []byte) ([]byte, error) {
		done := make(chan int)
		go func() {
			time.Sleep(time.Millisecond)
			done <- fill(string(words)) // goroutine
		}()
		return []byte{byte(<-done)}, nil
	})
}

func main() { select {} }
