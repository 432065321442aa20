//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// The network poller. A host thread waits for all descriptors, edge-triggered, and puts events into the ring pollEvents
// (gothreads/wasi/poller.py), so that Ms poll without calling the host. An M that would block here sleeps on pollWake
// until a timer is due, the host has added events, or netpollBreak wakes it; it holds no lock meanwhile.

type pollEvent struct {
	pd   uint32 // a *pollDesc; these are never freed
	seq  uint32 // the fdseq of pd when it was opened; or the number of a signal
	mode uint32
}

const (
	pollModeRead  = 1
	pollModeWrite = 2
)

var (
	pollEvents [1024]pollEvent
	pollHead   atomic.Uint32 // the first event not yet taken out; changes under pollLock
	pollTail   atomic.Uint32 // where the host puts the next event
	pollLock   mutex

	// pollWake is set to 1 by netpollBreak, and by the host when it adds events, until the blocked netpoll has seen
	// it. No wake-up is lost when it comes after netpoll has woken and before it stores 0: netpoll checks the ring
	// after the store, and its caller looks for work again after every return.
	pollWake atomic.Uint32
)

// pollPlaces gives the host the addresses of the above, and the size of the ring.
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

// netpollclose does nothing: the host forgets a descriptor when it is closed, and fdseq identifies late events of a
// pollDesc that was closed before.
func netpollclose(fd uintptr) int32 { return 0 }

// netpollarm does nothing: it is for pollers that must be armed each time.
func netpollarm(pd *pollDesc, mode int) {}

func netpollBreak() {
	if pollWake.CompareAndSwap(0, 1) {
		futexwakeup((*uint32)(unsafe.Pointer(&pollWake)), 1)
	}
}

// netpoll waits for up to ns nanoseconds, for ever if ns is negative, not at all if it is 0. It returns the goroutines
// that can go on.
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
		if event.mode == pollModeSignal {
			delta += signalArrived(event.seq, &ready)
			continue
		}
		pd := (*pollDesc)(unsafe.Pointer(uintptr(event.pd)))
		if uint32(pd.fdseq.Load()) != event.seq {
			continue // the pollDesc was closed since, and may be in use for another descriptor
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
