// The functions of benchmarks/typed_go in native Go, for ctypes: structs are C's.
package main

/*
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
	int64_t degree;
	double rate;
	char *name;
	bool robust;
	int64_t count;
} options;
*/
import "C"

import "unsafe"

func main() {}

// Options is what Go code has.
type Options struct {
	Degree int
	Rate   float64
	Name   string
	Robust bool
	Count  int
}

func echo(o Options) Options { return o }

// echo_c converts a C struct to Go's, calls echo, and converts its result. The name is the caller's, to be freed.
//
//export echo_c
func echo_c(in, out *C.options) {
	o := echo(Options{int(in.degree), float64(in.rate), C.GoString(in.name), bool(in.robust), int(in.count)})
	*out = C.options{C.int64_t(o.Degree), C.double(o.Rate), C.CString(o.Name), C.bool(o.Robust), C.int64_t(o.Count)}
}

//export free_c
func free_c(name unsafe.Pointer) { C.free(name) }

//export sum_c
func sum_c(numbers *C.double, n C.int64_t) C.double {
	sum := 0.0
	for _, v := range unsafe.Slice((*float64)(numbers), n) {
		sum += v
	}
	return C.double(sum)
}
