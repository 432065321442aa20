//go:build wasip1

package runtime

// leastHeap takes the place of defaultHeapMinimum, 4 MB: to what size a small heap grows before it is collected, at GOGC=100. Here the host
// says, which knows the processors and how much memory there may be. More is better than natively, since what a collection costs beside its
// marking (all threads stop twice, what is allocated meanwhile takes the slow way, each write of a pointer has a barrier) costs three times as much.
func leastHeap(c *gcControllerState) uint64 {
	if c.test { // of the runtime's own tests, which compute with the constant
		return defaultHeapMinimum
	}
	if toldLeastHeap == 0 { // gcinit: nobody else runs yet. Later calls hold the heap's lock, which must not wait for the host.
		toldLeastHeap = uint64(hostLeastHeap())
	}
	return toldLeastHeap
}

var toldLeastHeap uint64

// hostLeastHeap is in bytes.
//
//go:wasmimport gothreads least_heap
func hostLeastHeap() uint32
