package slot

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unsafe"
	"weak"
)

// ErrNobodyWaits is the cause when the context of a request is cancelled.
var ErrNobodyWaits = errors.New("nobody waits for the answer any more")

// A Slot is where one caller and the module exchange bytes. The host opens one for each of its callers and uses it for
// one call at a time, so fields without a lock need none. (A handler may call the host, which may call back on the same
// slot: then one request is nested in the other.)
//
// Every block of memory has one owner at a time:
//
//	in    the host, from buffer or payload until request (or until the exported function returns that takes it as an
//	      argument); then the handler
//	out   the module until request returns, then the host until its next call on the slot or release
//	lent  none: the memory of a payload that was lent to a handler, kept for the next payload. out may lie in it
//	large none: the same for a payload of more than MostLent. The collector frees it, if it comes before that payload
type Slot struct {
	// The host reads these three words after request and handlers.
	status  Status
	address uint32
	length  uint32

	in    []byte
	out   []byte
	lent  []byte
	large garbage
	parts [][]byte // the reply of a typed function refers to them

	last     uint32    // the last request's number; the host, too, numbers them from 1
	deadline time.Time // of the next request

	mu      sync.Mutex
	early   uint32 // a request's number, if the host has given it up before it has begun here
	running map[uint32]context.CancelCauseFunc
}

// open keeps slots alive: the host holds plain addresses, which the garbage collector does not see.
var open = struct {
	sync.Mutex
	slots map[uint32]*Slot
}{slots: map[uint32]*Slot{}}

// number returns the slot's address, by which the host knows it.
func (s *Slot) number() uint32 { return uint32(uintptr(unsafe.Pointer(s))) }

// A Request is one request: its number in its slot, the headers of the trace that it belongs to, a line each, and when
// the host will give it up; zero: not by itself.
type Request struct {
	Number   uint32
	Trace    string
	Deadline time.Time
}

// traceKey is the key of a context's trace.
type traceKey struct{}

// Trace returns the headers that a request's context has; "" if it has none.
func Trace(ctx context.Context) string {
	trace, _ := ctx.Value(traceKey{}).(string)
	return trace
}

// Begin returns the context of a request, and the function that ends it.
func (s *Slot) Begin(r Request) (context.Context, func()) {
	parent, request := context.Background(), r.Number
	if r.Trace != "" {
		parent = context.WithValue(parent, traceKey{}, r.Trace)
	}
	stop := context.CancelFunc(func() {})
	if !r.Deadline.IsZero() {
		parent, stop = context.WithDeadlineCause(parent, r.Deadline, ErrNobodyWaits)
	}
	ctx, cancel := context.WithCancelCause(parent)
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
		stop()
	}
}

// Keep keeps what the reply of a typed function refers to until the host has copied it.
func (s *Slot) Keep(parts [][]byte) { s.parts = parts }

// GiveUp cancels a request, of the slot of that number, for which nobody waits any more. If the request is over, it has
// no effect: no other request has its number.
func GiveUp(slot, request uint32) {
	open.Lock()
	s := open.slots[slot]
	open.Unlock()
	if s == nil {
		return
	}
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

func (s *Slot) reply(out []byte, status Status) {
	s.out, s.status = out, status
	s.address = uint32(uintptr(unsafe.Pointer(unsafe.SliceData(out))))
	s.length = uint32(len(out))
}

// garbage is memory that nobody uses, and that the collector has perhaps freed. It costs a program nothing to keep it:
// such memory stays where it is until the next collection anyway.
type garbage struct {
	begin weak.Pointer[byte]
	size  uint32
}

// take returns n bytes of the memory; nil if it has been freed, or has another size. A handler may keep what it gets, so
// that is at most an eighth larger.
func (g *garbage) take(n uint32) []byte {
	if g.size < n || g.size-n > n/8 {
		return nil
	}
	begin, size := g.begin.Value(), g.size
	*g = garbage{}
	if begin == nil {
		return nil
	}
	return unsafe.Slice(begin, size)[:n]
}

func (g *garbage) set(memory []byte) {
	*g = garbage{weak.Make(unsafe.SliceData(memory)), uint32(cap(memory))}
}

// leastUncleared is the size, in bytes, from which memory for the host is not cleared first: below, that costs less.
const leastUncleared = 32 << 10

// uncleared returns n bytes, not all of them zeros, since the host fills them. The standard library offers such memory
// through strings.Builder only.
func uncleared(n uint32) []byte {
	var b strings.Builder
	b.Grow(int(n))
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), b.Cap())[:n:n]
}
