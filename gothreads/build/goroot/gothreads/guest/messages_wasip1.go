package guest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// The host's side is gothreads/bridge/messages.py. Replies and events arrive on descriptors that are read like sockets;
// the host never writes into the module on its own. Errors are WASI errno values.

//go:wasmimport gothreads msg_call
func msg_call(number uint64, name string, payload *byte, length uint32) int32

//go:wasmimport gothreads msg_notify
func msg_notify(name string, payload *byte, length uint32) int32

//go:wasmimport gothreads msg_cancel
func msg_cancel(number uint64) int32

//go:wasmimport gothreads msg_replies
func msg_replies(fd *int32) int32

//go:wasmimport gothreads msg_events
func msg_events(name string, fd *int32) int32

// How a call ended: the values of gothreads.bridge.handlers.ReplyStatus.
const (
	replyOK = iota
	replyError
	replyCancelled
)

const (
	queueBuffer  = 64 << 10
	eventsBuffer = 64 // events that have arrived in Go but were not received yet
)

type reply struct {
	status  uint32
	payload []byte
}

// calls holds the calls in progress. A call is in waiting from before the host knows of it until its reply has come or
// its caller has given up: whichever removes it from the map decides.
var calls struct {
	sync.Mutex
	reading bool
	last    uint64
	waiting map[uint64]chan reply
}

// CallContext is like Call, but ends when ctx does; then the call is cancelled in the host, too.
func CallContext(ctx context.Context, name string, payload []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	done := make(chan reply, 1)
	calls.Lock()
	if !calls.reading {
		if err := readReplies(); err != nil {
			calls.Unlock()
			return nil, err
		}
		calls.reading, calls.waiting = true, map[uint64]chan reply{}
	}
	calls.last++
	number := calls.last
	calls.waiting[number] = done
	calls.Unlock()
	errno := msg_call(number, name, unsafe.SliceData(payload), uint32(len(payload)))
	runtime.KeepAlive(payload)
	if errno != 0 {
		forget(number)
		return nil, messageError(name, errno)
	}
	var r reply
	select {
	case r = <-done:
	case <-ctx.Done():
		if forget(number) {
			msg_cancel(number)
			return nil, ctx.Err()
		}
		r = <-done // the reply has come at the same time
	}
	switch r.status {
	case replyOK:
		return r.payload, nil
	case replyCancelled:
		return nil, fmt.Errorf("handler %s: %w", name, context.Canceled)
	default:
		return nil, &HostError{name, string(r.payload)}
	}
}

// Notify calls a handler in the host without waiting; its reply is discarded. An exception that the handler raises is
// logged in the host.
func Notify(name string, payload []byte) error {
	errno := msg_notify(name, unsafe.SliceData(payload), uint32(len(payload)))
	runtime.KeepAlive(payload)
	return messageError(name, errno)
}

// forget removes a call. It reports false if the reply has come already.
func forget(number uint64) bool {
	calls.Lock()
	defer calls.Unlock()
	_, waits := calls.waiting[number]
	delete(calls.waiting, number)
	return waits
}

// readReplies starts the goroutine that passes replies to the waiting callers.
func readReplies() error {
	var fd int32
	if errno := msg_replies(&fd); errno != 0 {
		return os.NewSyscallError("gothreads replies", syscall.Errno(errno))
	}
	in := bufio.NewReaderSize(os.NewFile(uintptr(fd), "gothreads replies"), queueBuffer)
	go func() {
		var header [16]byte
		for {
			read(in, header[:])
			r := reply{binary.LittleEndian.Uint32(header[8:]), make([]byte, binary.LittleEndian.Uint32(header[12:]))}
			read(in, r.payload)
			number := binary.LittleEndian.Uint64(header[:])
			calls.Lock()
			done := calls.waiting[number]
			delete(calls.waiting, number)
			calls.Unlock()
			if done != nil { // the caller has not given up
				done <- r
			}
		}
	}()
	return nil
}

var events = struct {
	sync.Mutex
	byName map[string]chan []byte
}{byName: map[string]chan []byte{}}

// Events returns the channel on which the host's events of that name arrive (app.signal in Python), in the order in
// which each sender sent them. It returns the same channel each time, which is never closed: several goroutines may
// receive from it, and each event goes to one of them. The payload belongs to the receiver, for good.
//
// It panics if the host has no room for another name.
func Events(name string) <-chan []byte {
	events.Lock()
	defer events.Unlock()
	if c := events.byName[name]; c != nil {
		return c
	}
	var fd int32
	if errno := msg_events(name, &fd); errno != 0 {
		panic(fmt.Sprintf("guest.Events(%q): %v", name, syscall.Errno(errno)))
	}
	c := make(chan []byte, eventsBuffer)
	events.byName[name] = c
	in := bufio.NewReaderSize(os.NewFile(uintptr(fd), "gothreads events"), queueBuffer)
	go func() {
		var header [4]byte
		for {
			read(in, header[:])
			payload := make([]byte, binary.LittleEndian.Uint32(header[:]))
			read(in, payload)
			c <- payload
		}
	}()
	return c
}

// read fills b from a queue of the host, which ends only with the module.
func read(in *bufio.Reader, b []byte) {
	if _, err := io.ReadFull(in, b); err != nil {
		panic(fmt.Sprintf("gothreads/guest: a queue of the host's: %v", err))
	}
}

func messageError(name string, errno int32) error {
	switch syscall.Errno(errno) {
	case 0:
		return nil
	case syscall.ENOENT:
		return fmt.Errorf("handler %s: %w", name, ErrNoHandler)
	case syscall.EAGAIN:
		return fmt.Errorf("handler %s: %w", name, ErrBusy)
	default:
		return fmt.Errorf("handler %s: %w", name, syscall.Errno(errno))
	}
}
