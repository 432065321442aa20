//go:build cgo

package main

/*
#include <stdint.h>
#include <stdlib.h>

typedef int64_t (*host_function)(int64_t);
static inline int64_t call_host(host_function f, int64_t value) { return f(value); }
*/
import "C"

import "unsafe"

// The functions for C: each export, with the prefix native_.

//export native_host
func native_host(f C.host_function) {
	hostCall = func(value int64) int64 { return int64(C.call_host(f, C.int64_t(value))) }
}

// native_request calls a handler. Free its answer with native_free; its length is in size. Returns nil when the handler
// failed.
//
//export native_request
func native_request(name *C.char, payload unsafe.Pointer, size *int64) unsafe.Pointer {
	answer, err := handlers[C.GoString(name)](C.GoBytes(payload, C.int(*size)))
	if err != nil {
		return nil
	}
	*size = int64(len(answer))
	return C.CBytes(answer)
}

//export native_free
func native_free(answer unsafe.Pointer) { C.free(answer) }

//export native_add
func native_add(a, b int64) int64 { return add(a, b) }

//export native_compute
func native_compute(seed int64) int64 { return compute(seed) }

//export native_primes
func native_primes(n int64) int64 { return primes(n) }

//export native_allocate
func native_allocate(depth int64) int64 { return allocate(depth) }

//export native_call_back
func native_call_back(n int64) int64 { return call_back(n) }

//export native_count
func native_count(n, spread, begin int64) int64 { return count(n, spread, begin) }

//export native_counted
func native_counted() int64 { return counted() }

//export native_ask
func native_ask(value int64) int64 { return ask(value) }

//export native_trip
func native_trip(value int64) int64 { return trip(value) }

//export native_meet
func native_meet(calls int64) int64 { return meet(calls) }

//export native_ring
func native_ring(goroutines, laps int64) int64 { return ring(goroutines, laps) }

//export native_work_begin
func native_work_begin(busy int64) { work_begin(busy) }

//export native_work_end
func native_work_end() { work_end() }

//export native_have_heap
func native_have_heap(megabytes int64) int64 { return have_heap(megabytes) }

//export native_hold
func native_hold(megabytes int64) int64 { return hold(megabytes) }
