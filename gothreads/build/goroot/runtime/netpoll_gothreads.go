//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// The network poller. A thread of the host waits for all descriptors, edge-triggered, and puts what happens into
// pollRing (gothreads/wasi/poller.py), so that Ms poll without calling the host. An M that would block here sleeps on
// pollWake until a timer is due, the host has news, or netpollBreak wakes it, and holds no lock meanwhile.

type pollEvent struct {
	pd   uint32 // *pollDesc: these are never freed
	seq  uint32 // its fdseq when it was opened
	mode uint32
}

const (
	pollModeRead  = 1
	pollModeWrite = 2
)

var (
	pollEvents [1024]pollEvent
	pollHead   atomic.Uint32 // the first event that was not taken out; changes under pollLock
	pollTail   atomic.Uint32 // where the host puts the next one
	pollLock   mutex

	// pollWake is 1 from netpollBreak, or news of the host's, until the blocked netpoll has seen it. Neither is
	// lost when it comes after netpoll has woken and before it stores 0: the ring is looked at after that, and
	// netpoll's caller looks for work again after every return.
	pollWake atomic.Uint32
)

// pollPlaces tells the host where things are.
var pollPlaces struct{ head, tail, wake, events, size uint32 }

//go:wasmimport gothreads poll_start
func hostPollStart(places *uint32)

//go:wasmimport gothreads poll_open
func hostPollOpen(fd int32, pd uint32, seq uint32) int32

func netpollinit() {
	pollPlaces.head = uint32(uintptr(unsafe.Pointer(&pollHead)))
	pollPlaces.tail = uint32(uintptr(unsafe.Pointer(&pollTail)))
	pollPlaces.wake = uint32(uintptr(unsafe.Pointer(&pollWake)))
	pollPlaces.events = uint32(uintptr(unsafe.Pointer(&pollEvents)))
	pollPlaces.size = uint32(len(pollEvents))
	hostPollStart(&pollPlaces.head)
}

func netpollIsPollDescriptor(fd uintptr) bool { return false }

func netpollopen(fd uintptr, pd *pollDesc) int32 {
	return hostPollOpen(int32(fd), uint32(uintptr(unsafe.Pointer(pd))), uint32(pd.fdseq.Load()))
}

// The host forgets a descriptor when it is closed; what it says of a pollDesc that was closed before is told by fdseq.
func netpollclose(fd uintptr) int32 { return 0 }

// netpollarm is for pollers that must be asked each time.
func netpollarm(pd *pollDesc, mode int) {}

func netpollBreak() {
	if pollWake.CompareAndSwap(0, 1) {
		futexwakeup((*uint32)(unsafe.Pointer(&pollWake)), 1)
	}
}

// netpoll waits for ns nanoseconds, for ever if negative, not at all if 0; and returns the goroutines that can go on.
//
//go:nowritebarrierrec
func netpoll(ns int64) (gList, int32) {
	if ns != 0 {
		futexsleep((*uint32)(unsafe.Pointer(&pollWake)), 0, ns)
		pollWake.Store(0)
	}
	var ready gList
	delta := int32(0)
	if pollHead.Load() == pollTail.Load() {
		return ready, delta
	}
	lock(&pollLock)
	head, tail := pollHead.Load(), pollTail.Load()
	for ; head != tail; head++ {
		event := pollEvents[head%uint32(len(pollEvents))]
		pd := (*pollDesc)(unsafe.Pointer(uintptr(event.pd)))
		if uint32(pd.fdseq.Load()) != event.seq {
			continue // it was closed since, and may be another's
		}
		mode := int32(0)
		if event.mode&pollModeRead != 0 {
			mode += 'r'
		}
		if event.mode&pollModeWrite != 0 {
			mode += 'w'
		}
		if mode != 0 {
			delta += netpollready(&ready, pd, mode)
		}
	}
	pollHead.Store(head)
	unlock(&pollLock)
	return ready, delta
}
