package guest

import (
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// A slot is where one caller and the module hand bytes to each other. The host opens one for each of its
// callers and uses it for one call at a time, so nothing here needs a lock.
//
// Every block of memory has one owner at a time:
//
//	in   the host's from buffer until request (or until the exported function that it is an argument of
//	     returns), then the handler's
//	out  the module's until request returns, then the host's until its next call on the slot or release
type slot struct {
	// The host reads these three words after request and handlers.
	status  status
	address uint32
	length  uint32

	in  []byte
	out []byte
}

// The host holds plain addresses, which the garbage collector does not see: this keeps slots alive.
var open = struct {
	sync.Mutex
	slots map[*slot]struct{}
}{slots: map[*slot]struct{}{}}

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
	open.slots[s] = struct{}{}
	return unsafe.Pointer(s)
}

//go:wasmexport gothreads_slot_close
func slotClose(p unsafe.Pointer) {
	open.Lock()
	defer open.Unlock()
	delete(open.slots, (*slot)(p))
}

// buffer gives the host n bytes to fill. They are ordinary garbage-collected memory, so a string or slice that
// points into them stays good for as long as Go code keeps it.
//
//go:wasmexport gothreads_buffer
func buffer(p unsafe.Pointer, n uint32) unsafe.Pointer {
	s := (*slot)(p)
	s.in = make([]byte, max(n, 1))[:n]
	return unsafe.Pointer(unsafe.SliceData(s.in))
}

// request answers what the host has put into the buffer: the handler's name, then the payload.
//
//go:wasmexport gothreads_request
func request(p unsafe.Pointer, nameLength uint32) {
	s := (*slot)(p)
	in := s.in
	s.in = nil
	s.reply(answer(string(in[:nameLength]), in[nameLength:]))
}

// handlerNames replies with the names of the handlers, a line each.
//
//go:wasmexport gothreads_handlers
func handlerNames(p unsafe.Pointer) {
	(*slot)(p).reply([]byte(strings.Join(names(), "\n")), statusOK)
}

// The most of a traceback that stacks replies with.
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

// release lets go of both blocks of a slot that the host will not use for a while.
//
//go:wasmexport gothreads_release
func release(p unsafe.Pointer) {
	s := (*slot)(p)
	s.in, s.out = nil, nil
}
