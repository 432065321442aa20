//go:build wasip1

package runtime

import (
	"internal/runtime/atomic"
	"unsafe"
)

// Signals for os/signal. The host decides which signals reach the program (gothreads/wasi/signals.py); they arrive
// through the poller's ring, as events without a pollDesc.

const pollModeSignal = 4

// Bits of signal_want's second argument.
const (
	signalDefault = iota
	signalDelivered
	signalIgnored
)

//go:wasmimport gothreads signal_want
func hostSignalWant(number, how uint32)

func sigenable(s uint32) {
	netpollGenericInit() // the host writes into its ring
	hostSignalWant(s, signalDelivered)
}

func sigdisable(s uint32) { hostSignalWant(s, signalDefault) }

func sigignore(s uint32) { hostSignalWant(s, signalIgnored) }

// signalReceiver is os/signal's goroutine while it is parked in signal_recv. Elsewhere it sleeps on sig.note in a system
// call, and so seems to be at work.
//
// Invariant: a wake-up (sig.note is set by sigsend, in netpoll) is not lost. The goroutine stores itself, then looks at
// the note; netpoll sets the note, then takes the goroutine. So one of them, or both, see the other's step, and only
// who takes the goroutine out of signalReceiver decides whether it runs.
var signalReceiver guintptr

// signalPark waits until sig.note is set. It counts as a waiter of the poller: an idle M waits in netpoll for it.
func signalPark() {
	netpollAdjustWaiters(1)
	gopark(signalParkCommit, nil, waitReasonChanReceive, traceBlockChanRecv, 1)
}

func signalParkCommit(gp *g, _ unsafe.Pointer) bool {
	atomic.Storeuintptr((*uintptr)(unsafe.Pointer(&signalReceiver)), uintptr(unsafe.Pointer(gp)))
	if atomic.Load(key32(&sig.note.key)) == 0 {
		return true
	}
	if signalReceiver.cas(gp.guintptr(), 0) {
		netpollAdjustWaiters(-1)
		return false
	}
	return true
}

// signalArrived queues a signal, and adds os/signal's goroutine to ready if it waits for one. It returns the change to
// the number of the poller's waiters.
//
//go:nowritebarrierrec
func signalArrived(s uint32, ready *gList) int32 {
	if !sigsend(s) {
		return 0 // not wanted any more
	}
	gp := guintptr(atomic.Loaduintptr((*uintptr)(unsafe.Pointer(&signalReceiver))))
	if gp == 0 || atomic.Load(key32(&sig.note.key)) == 0 || !signalReceiver.cas(gp, 0) {
		return 0
	}
	ready.push(gp.ptr())
	return -1
}
