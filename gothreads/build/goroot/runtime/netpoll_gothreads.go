//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// The network poller: only what timers need of it. There are no descriptors to poll yet, so an M that would
// block here sleeps on pollWake until a timer is due or netpollBreak wakes it, and holds no lock meanwhile.

// pollWake is 1 from netpollBreak until the blocked netpoll has seen it. A break that comes after netpoll has
// woken and before it stores 0 is not lost: netpoll's caller looks for work again after every return.
var pollWake atomic.Uint32

func netpollinit() {}

func netpollIsPollDescriptor(fd uintptr) bool { return false }

// ENOSYS of WASI: package os then uses the file in blocking mode.
func netpollopen(fd uintptr, pd *pollDesc) int32 { return 52 }

func netpollclose(fd uintptr) int32 { return 0 }

func netpollarm(pd *pollDesc, mode int) { throw("runtime: unused") }

func netpollBreak() {
	if pollWake.CompareAndSwap(0, 1) {
		futexwakeup((*uint32)(unsafe.Pointer(&pollWake)), 1)
	}
}

// netpoll waits for ns nanoseconds: for ever if negative, not at all if 0.
func netpoll(ns int64) (gList, int32) {
	if ns != 0 {
		futexsleep((*uint32)(unsafe.Pointer(&pollWake)), 0, ns)
		pollWake.Store(0)
	}
	return gList{}, 0
}
