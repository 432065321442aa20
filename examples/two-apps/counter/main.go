// Counter counts. A new instance goes on where the last one was: the server hands over what save returns.
package main

import (
	"strconv"
	"sync/atomic"

	"gothreads/guest"
)

var total atomic.Int64

// next returns the next number.
//
//go:wasmexport next
func next() int64 { return total.Add(1) }

func init() {
	guest.Handle("save", func([]byte) ([]byte, error) {
		return strconv.AppendInt(nil, total.Load(), 10), nil
	})
	guest.Handle("load", func(state []byte) ([]byte, error) {
		n, err := strconv.ParseInt(string(state), 10, 64)
		total.Store(n)
		return nil, err
	})
}

func main() { select {} }
