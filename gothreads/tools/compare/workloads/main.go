// Workloads is the program that `gothreads compare` runs under each design: one file for each thing that is measured.
//
// The same source is built for WebAssembly with threads, for stock Go's WebAssembly, and natively as a C library. Exports take and give
// int64 only, so that a C caller needs no more than their names, which are in native.go.
package main

import "errors"

// hostCall asks the host's function: from WebAssembly an import, natively a C function that is handed over.
var hostCall func(int64) int64

var errNoBytes = errors.New("an empty payload")

// handlers take bytes and give bytes.
var handlers = map[string]func([]byte) ([]byte, error){"flip": flip, "progress": progress}

// main does not run in a library; what there must be is made by what needs it.
func main() { select {} }
