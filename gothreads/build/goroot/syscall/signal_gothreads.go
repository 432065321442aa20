//go:build wasip1

package syscall

// signal_raise delivers a signal to the program's own handler, if it has one, and reports whether it has.
//
//go:wasmimport gothreads signal_raise
func signal_raise(number int32) int32
