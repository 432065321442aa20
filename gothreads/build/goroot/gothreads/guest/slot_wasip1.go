package guest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"gothreads/guest/wire"
)

// A slot is where one caller and the module exchange bytes. The host opens one for each of its callers and uses it for
// one call at a time, so fields without a lock need none. (A handler may call the host, which may call back on the same
// slot: then one request is nested in the other.)
//
// Every block of memory has one owner at a time:
//
//	in    the host, from buffer or payload until request (or until the exported function returns that takes it as an
//	      argument); then the handler
//	out   the module until request returns, then the host until its next call on the slot or release
//	lent  none: the memory of a payload that was lent to a handler, kept for the next payload. out may lie in it
type slot struct {
	// The host reads these three words after request and handlers.
	status  status
	address uint32
	length  uint32

	in    []byte
	out   []byte
	lent  []byte
	parts [][]byte // the reply of a typed function refers to them

	last uint32 // the last request's number; the host, too, numbers them from 1

	mu      sync.Mutex
	early   uint32 // a request's number, if the host has given it up before it has begun here
	running map[uint32]context.CancelCauseFunc
}

// open keeps slots alive: the host holds plain addresses, which the garbage collector does not see.
var open = struct {
	sync.Mutex
	slots map[uint32]*slot
}{slots: map[uint32]*slot{}}

// number returns the slot's address, by which the host knows it.
func (s *slot) number() uint32 { return uint32(uintptr(unsafe.Pointer(s))) }

func (s *slot) begin(request uint32) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.early == request {
		cancel(ErrNobodyWaits)
	}
	s.early = 0
	if s.running == nil {
		s.running = map[uint32]context.CancelCauseFunc{}
	}
	s.running[request] = cancel
	return ctx, func() {
		s.mu.Lock()
		delete(s.running, request)
		s.mu.Unlock()
		cancel(nil)
	}
}

func (s *slot) keep(parts [][]byte) { s.parts = parts }

// giveUp cancels a request for which nobody waits any more. If the request is over, giveUp has no effect: no other
// request has its number.
func (s *slot) giveUp(request uint32) {
	s.mu.Lock()
	cancel := s.running[request]
	if cancel == nil {
		s.early = request
	}
	s.mu.Unlock()
	if cancel != nil {
		cancel(ErrNobodyWaits)
	}
}

//go:wasmimport gothreads msg_cancels
func msg_cancels(fd *int32) int32

// watchCancels starts the goroutine that cancels requests for which nobody waits any more.
var watchCancels = sync.OnceFunc(func() {
	var fd int32
	if errno := msg_cancels(&fd); errno != 0 {
		panic(fmt.Sprintf("guest.HandleContext: %v", syscall.Errno(errno)))
	}
	in := bufio.NewReader(os.NewFile(uintptr(fd), "gothreads cancels"))
	go func() {
		var message [8]byte
		for {
			read(in, message[:])
			open.Lock()
			s := open.slots[binary.LittleEndian.Uint32(message[:])]
			open.Unlock()
			if s != nil {
				s.giveUp(binary.LittleEndian.Uint32(message[4:]))
			}
		}
	}()
})

func (s *slot) reply(out []byte, st status) {
	s.out, s.status = out, st
	s.address = uint32(uintptr(unsafe.Pointer(unsafe.SliceData(out))))
	s.length = uint32(len(out))
}

//go:wasmexport gothreads_slot_open
func slotOpen() unsafe.Pointer {
	s := new(slot)
	open.Lock()
	defer open.Unlock()
	open.slots[s.number()] = s
	return unsafe.Pointer(s)
}

//go:wasmexport gothreads_slot_close
func slotClose(p unsafe.Pointer) {
	open.Lock()
	defer open.Unlock()
	delete(open.slots, (*slot)(p).number())
}

// buffer gives the host n bytes to fill. They are ordinary garbage-collected memory, so a string or slice that points
// into them stays valid for as long as Go code keeps it.
//
//go:wasmexport gothreads_buffer
func buffer(p unsafe.Pointer, n uint32) unsafe.Pointer {
	s := (*slot)(p)
	if n < 32<<10 {
		s.in = make([]byte, max(n, 1))[:n]
	} else {
		s.in = uncleared(n)
	}
	return unsafe.Pointer(unsafe.SliceData(s.in))
}

// uncleared returns n bytes, not all of them zeros, since the host fills them. The standard library offers such memory
// through strings.Builder only.
func uncleared(n uint32) []byte {
	var b strings.Builder
	b.Grow(int(n))
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), b.Cap())[:n:n]
}

// mostLent is the most memory that a slot keeps for lent payloads, in bytes.
const mostLent = wire.MostLent

// payload gives the host n bytes to fill, only for use with request: a string that points there would change.
//
//go:wasmexport gothreads_payload
func payload(p unsafe.Pointer, n uint32) unsafe.Pointer {
	s := (*slot)(p)
	if uint32(cap(s.lent)) < max(n, 1) {
		return buffer(p, n)
	}
	s.in, s.lent = s.lent[:n], nil
	return unsafe.Pointer(unsafe.SliceData(s.in))
}

// request answers the request that the host has put into the buffer: the handler's name, then the payload.
//
//go:wasmexport gothreads_request
func request(p unsafe.Pointer, nameLength uint32) {
	s := (*slot)(p)
	in := s.in
	s.in = nil
	if s.last++; s.last == 0 { // after 4,294,967,295 requests
		s.last = 1
	}
	if s.parts != nil { // the host has copied them
		s.parts = nil
	}
	reply, status, lent := answer(string(in[:nameLength]), in[nameLength:], s, s.last)
	if lent && cap(in) <= mostLent {
		s.lent = in
	}
	s.reply(reply, status)
}

// handlerNames replies with the names of the handlers, one per line.
//
//go:wasmexport gothreads_handlers
func handlerNames(p unsafe.Pointer) {
	(*slot)(p).reply([]byte(strings.Join(names(), "\n")), statusOK)
}

// mostStacks bounds the traceback that stacks replies with, in bytes.
const mostStacks = 64 << 20

// stacks replies with the traceback of all goroutines.
//
//go:wasmexport gothreads_stacks
func stacks(p unsafe.Pointer) {
	out := make([]byte, 64<<10)
	n := runtime.Stack(out, true)
	for n == len(out) && n < mostStacks {
		out = make([]byte, 2*len(out))
		n = runtime.Stack(out, true)
	}
	(*slot)(p).reply(out[:n], statusOK)
}

// release drops the reply and the buffer that the host has filled. The memory for lent payloads stays: it is small.
//
//go:wasmexport gothreads_release
func release(p unsafe.Pointer) {
	s := (*slot)(p)
	s.in, s.out, s.parts = nil, nil, nil
}
