// Package idle lets the host run a module with one thread until all its goroutines wait: see gothreads/wasi/idle.py.
package idle

import (
	"fmt"
	"os"
	"syscall"
)

//go:wasmimport gothreads idle_open
func idle_open(fd *int32) int32

// idling is the descriptor on which idle waits.
var idling *os.File

// idle returns when every other goroutine is waiting.
//
//go:wasmexport gothreads_idle
func idle() {
	if idling == nil {
		var fd int32
		if errno := idle_open(&fd); errno != 0 {
			panic(fmt.Sprintf("gothreads/guest: cannot wait until idle: %v", syscall.Errno(errno)))
		}
		idling = os.NewFile(uintptr(fd), "gothreads idle")
	}
	var b [1]byte
	idling.Read(b[:])
}
