package slot

import (
	"runtime"
	"time"
	"unsafe"
)

//go:wasmexport gothreads_slot_open
func slotOpen() unsafe.Pointer {
	s := new(Slot)
	open.Lock()
	defer open.Unlock()
	open.slots[s.number()] = s
	return unsafe.Pointer(s)
}

//go:wasmexport gothreads_slot_close
func slotClose(p unsafe.Pointer) {
	open.Lock()
	defer open.Unlock()
	delete(open.slots, (*Slot)(p).number())
}

// buffer gives the host n bytes to fill. They are ordinary garbage-collected memory, so a string or slice that points
// into them stays valid for as long as Go code keeps it.
//
//go:wasmexport gothreads_buffer
func buffer(p unsafe.Pointer, n uint32) unsafe.Pointer {
	s := (*Slot)(p)
	if n < leastUncleared {
		s.in = make([]byte, max(n, 1))[:n]
	} else {
		s.in = uncleared(n)
	}
	return unsafe.Pointer(unsafe.SliceData(s.in))
}

// payload gives the host n bytes to fill, only for use with request: a string that points there would change.
//
//go:wasmexport gothreads_payload
func payload(p unsafe.Pointer, n uint32) unsafe.Pointer {
	s := (*Slot)(p)
	switch {
	case uint32(cap(s.lent)) >= max(n, 1):
		s.in, s.lent = s.lent[:n], nil
	case n < leastUncleared:
		s.in = make([]byte, max(n, 1))[:n]
	default:
		if s.in = s.large.take(n); s.in == nil {
			s.in = uncleared(n)
		}
	}
	return unsafe.Pointer(unsafe.SliceData(s.in))
}

// request answers the request that the host has put into the buffer: the handler's name, then the payload.
//
//go:wasmexport gothreads_request
func request(p unsafe.Pointer, nameLength uint32) { (*Slot)(p).serve(nameLength, 0) }

// tracedRequest does the same for a request that belongs to a trace, whose headers are between name and payload.
//
//go:wasmexport gothreads_traced_request
func tracedRequest(p unsafe.Pointer, nameLength, traceLength uint32) {
	(*Slot)(p).serve(nameLength, traceLength)
}

// timeLeft says how many nanoseconds are left for the next request on the slot. The host has its own clock.
//
//go:wasmexport gothreads_time_left
func timeLeft(p unsafe.Pointer, nanoseconds int64) {
	(*Slot)(p).deadline = time.Now().Add(time.Duration(nanoseconds))
}

func (s *Slot) serve(nameLength, traceLength uint32) {
	in, deadline := s.in, s.deadline
	s.in, s.deadline = nil, time.Time{} // requests inside this one have their own

	if s.last++; s.last == 0 { // after 4,294,967,295 requests
		s.last = 1
	}
	if s.parts != nil { // the host has copied them
		s.parts = nil
	}
	trace := string(in[nameLength:][:traceLength]) // no part of the payload, whose memory may be used again
	r := Request{s.last, trace, deadline}
	reply, status, lent := s.answer(string(in[:nameLength]), in[nameLength+traceLength:], r)
	switch {
	case lent && cap(in) <= MostLent:
		s.lent = in
	case lent:
		s.large.set(in)
	}
	s.reply(reply, status)
}

// handlerNames replies with the names of the handlers, one per line.
//
//go:wasmexport gothreads_handlers
func handlerNames(p unsafe.Pointer) {
	(*Slot)(p).reply(names(all), OK)
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
	(*Slot)(p).reply(out[:n], OK)
}

// release drops the reply and the buffer that the host has filled. The memory for lent payloads stays: it is small.
//
//go:wasmexport gothreads_release
func release(p unsafe.Pointer) {
	s := (*Slot)(p)
	s.in, s.out, s.parts = nil, nil, nil
}
