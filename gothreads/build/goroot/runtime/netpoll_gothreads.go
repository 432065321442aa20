//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// The network poller. As on Linux, an M that has nothing to do waits in the host's epoll (gothreads/csrc/poller.c,
// gothreads/wasi/poller.py), edge-triggered, until a descriptor is ready, a timer is due, or netpollBreak wakes it.

// pollEvent is an event as the host writes it.
type pollEvent struct {
	pd   uint32 // a *pollDesc; these are never freed
	seq  uint32 // the fdseq of pd when it was opened; or the number of a signal
	mode uint32
}

const (
	pollModeRead  = 1
	pollModeWrite = 2
)

// pollWoken is 1 from a netpollBreak until the netpoll that it wakes has returned: then its caller looks for work, and
// further wake-ups are not needed.
var pollWoken atomic.Uint32

//go:wasmimport gothreads poll_open
func hostPollOpen(fd int32, pd uint32, seq uint32) int32

// hostPollWait returns the number of events that it has written. It waits for ever if ns is negative, not at all if it is 0.
//
//go:wasmimport gothreads poll_wait
//go:noescape
func hostPollWait(ns int64, events unsafe.Pointer, most int32) int32

//go:wasmimport gothreads poll_break
func hostPollBreak()

func netpollinit() {}

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
	if pollWoken.CompareAndSwap(0, 1) {
		hostPollBreak()
	}
}

// netpoll waits for up to ns nanoseconds, for ever if ns is negative, not at all if it is 0. It returns the goroutines
// that can go on.
//
//go:nowritebarrierrec
func netpoll(ns int64) (gList, int32) {
	var ready gList
	if !netpollinited() {
		return ready, 0
	}
	var events [128]pollEvent
	n := hostPollWait(ns, unsafe.Pointer(&events), int32(len(events)))
	if ns != 0 {
		pollWoken.Store(0)
	}
	delta := int32(0)
	for _, event := range events[:n] {
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
	return ready, delta
}

// An ioTurn counts what a P's goroutine has read and written since it was scheduled.
type ioTurn struct {
	tick  uint32 // the P's schedtick
	calls uint32
}

// ioTurnCalls is how many times a goroutine may read and write before others have their turn.
const ioTurnCalls = 16

// shareAfterIO is called before a goroutine reads or writes what can be polled. If it has done so often without having
// had to wait, shareAfterIO polls, and lets the goroutines run that are ready. Without that, a goroutine whose peer
// answers at once would keep its P for the 10 ms until sysmon preempts it, and all others of a server would wait.
func shareAfterIO() {
	pp := getg().m.p.ptr()
	if pp.io.tick != pp.schedtick {
		pp.io = ioTurn{tick: pp.schedtick}
	}
	if pp.io.calls++; pp.io.calls > ioTurnCalls {
		mcall(shareAfterIO_m)
	}
}

func shareAfterIO_m(gp *g) {
	list, delta := netpoll(0)
	injectglist(&list)
	netpollAdjustWaiters(delta)
	// The goroutine goes into the P's queue. Others may be in the global one, where an M without a P puts those that it
	// finds ready: the scheduler looks there first at each 61st tick.
	pp := gp.m.p.ptr()
	pp.schedtick += 61 - pp.schedtick%61
	goyield_m(gp)
}
