// Workloads is the program that `gothreads compare` runs under each design: one file for each area that is measured.
//
// The same source is built for WebAssembly with threads, for stock Go's WebAssembly, and natively as a C library.
// Exports take and return int64 only, so that a C caller needs no more than their names, which are in native.go.
package main

import "errors"

// hostCall calls the host's function: an import in WebAssembly, natively a C function that the host passes in.
var hostCall func(int64) int64

var errNoBytes = errors.New("an empty payload")

// handlers take bytes and return bytes.
var handlers = map[string]func([]byte) ([]byte, error){"flip": flip, "progress": progress}

// main does not run in a library: whatever is needed is created where it is used first.
func main() { select {} }
