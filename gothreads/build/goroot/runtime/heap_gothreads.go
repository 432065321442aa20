//go:build wasip1

package runtime

// leastHeap replaces defaultHeapMinimum (4 MB): the size, in bytes, to which a small heap grows before it is collected
// at GOGC=100. The host decides, as it knows the processors and the limit on memory. A larger value than the native one
// pays, since the costs of a collection other than marking (all threads stop twice, allocations take the slow path
// meanwhile, each pointer write has a barrier) are three times as high.
func leastHeap(c *gcControllerState) uint64 {
	if c.test { // the runtime's own tests compute with the constant
		return defaultHeapMinimum
	}
	if toldLeastHeap == 0 {
		// In gcinit, before other threads run. Later calls hold the heap lock, which must not wait for the host.
		toldLeastHeap = uint64(hostLeastHeap())
	}
	return toldLeastHeap
}

var toldLeastHeap uint64

// hostLeastHeap returns the host's choice, in bytes.
//
//go:wasmimport gothreads least_heap
func hostLeastHeap() uint32
