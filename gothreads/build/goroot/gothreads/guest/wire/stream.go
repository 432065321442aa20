package wire

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"gothreads/guest/slot"
)

// Notify calls a handler in the host without waiting: guest.Notify. Whatever makes streams sets it.
var Notify func(name string, payload []byte) error

// wakeHandler is the host's handler that ends a wait of the number in its payload (gothreads/typed/parking.py).
const wakeHandler = "gothreads:wake"

// A request waits so long for an item before the host's wait is parked: a stream that is busy is not slowed down by
// another way through the host, and one that is idle holds no caller.
const beforeParking = time.Millisecond

// A batch of a stream has at most so many items, and ends with the item that makes it this large, in bytes.
const (
	mostItems = 1024
	mostBatch = 64 << 10
)

// A Stream hands the items of an iterator or a channel to the host, which asks for them in batches.
//
// A goroutine, which the first request starts, writes items into the next batch. When that is full, it waits until the
// host has taken it: so it is ahead by one batch at most. A batch has one item at first, and twice as many whenever the
// host has found it full, because the goroutine is faster then.
//
// Under mu: the goroutine waits only while the batch is full and the stream is open, the host only while the batch is
// empty, the goroutine has not ended, and somebody waits for the host. So one of the two can always go on, and whoever
// changes that wakes the other.
//
// The host's waits are parked: a request that finds nothing returns after a moment, and leaves a number here, by which
// the host is told when to ask again. Under mu, a number is left only while the batch is empty, and whoever changes that
// takes all numbers: so each is told once, after it was left. The host may be told before it has the reply.
type Stream struct {
	// Closed is closed when the host wants no more items.
	Closed chan struct{}

	id   uint64
	run  func(s *Stream)
	life *Lifetime // of the function's context, if it takes one

	pieces *Pieces // if the items are these. Under mu until the stream has started, and constant from then on

	mu      sync.Mutex
	changed sync.Cond
	items   Writer
	count   int // of items
	most    int // items in a batch
	waiting int // requests that wait for an item
	parked  []uint64
	started bool
	ended   bool // the goroutine will write no more items
	closed  bool
	fail    func(c *Call) // replies with the error that ended it
}

// streams: those that are open, by the numbers that the host knows.
var streams = struct {
	sync.Mutex
	last uint64
	byID map[uint64]*Stream
}{byID: map[uint64]*Stream{}}

// exportStreams exports what the host uses them with. Programs without streams do not pay for it.
var exportStreams = sync.OnceFunc(func() {
	// Its context ends when nobody waits any more. Otherwise requests that wait for items could hold all callers, and
	// none would be left for those that close the streams.
	ExportContext("stream next", func(ctx context.Context, c *Call, _ Base) {
		id, wait, ok := c.idAndWait()
		if !ok {
			return
		}
		if s := find(id); s == nil { // it was closed meanwhile
			c.Out.Array(2)
			c.Out.Array(0)
			c.Out.Bool(true)
		} else if last := s.next(ctx, c, wait); last {
			remove(id)
		}
	})
	Export("stream close", func(c *Call, _ Base) {
		if !c.In.Fixed(1) {
			c.Refuse()
			return
		}
		id := c.In.Uint(64)
		if !c.In.End() {
			c.Refuse()
			return
		}
		if s := remove(id); s != nil {
			s.close()
		}
		c.Out.Array(0)
	})
})

// idAndWait reads the arguments of a request: the numbers of a stream, and of the host's wait; 0: the request itself
// waits. False: it is refused.
func (c *Call) idAndWait() (id, wait uint64, ok bool) {
	if c.In.Fixed(2) {
		id, wait = c.In.Uint(64), c.In.Uint(64)
	}
	if c.In.End() {
		return id, wait, true
	}
	c.Refuse()
	return 0, 0, false
}

func find(id uint64) *Stream {
	streams.Lock()
	defer streams.Unlock()
	return streams.byID[id]
}

func remove(id uint64) *Stream {
	streams.Lock()
	defer streams.Unlock()
	s := streams.byID[id]
	delete(streams.byID, id)
	return s
}

// Stream replies with a new stream. run writes its items: Item, what writes one, Next; and again, until Next returns
// false or there are no more. life is the lifetime of the function's context; nil if it takes none.
func (c *Call) Stream(life *Lifetime, run func(s *Stream)) *Stream {
	exportStreams()
	s := &Stream{Closed: make(chan struct{}), run: run, life: life, most: 1}
	s.changed.L = &s.mu
	if life != nil {
		life.kept = true
	}
	streams.Lock()
	defer streams.Unlock()
	streams.last++
	s.id = streams.last
	streams.byID[s.id] = s
	c.Out.Uint(s.id)
	return s
}

// Item returns where to write the next item.
func (s *Stream) Item() *Writer {
	s.mu.Lock()
	return &s.items
}

// Next ends an item, and waits until there is room for another. False: the host wants no more.
func (s *Stream) Next() bool {
	defer s.mu.Unlock()
	s.count++
	if s.waiting > 0 {
		s.changed.Broadcast()
	}
	s.tell()
	for s.full() && !s.closed {
		s.changed.Wait()
	}
	return !s.closed
}

// Fail ends the stream with an error, after the items so far. reply replies with it.
func (s *Stream) Fail(reply func(c *Call)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = reply
}

func (s *Stream) full() bool {
	return s.count >= s.most || len(s.items.data) >= mostBatch || s.items.parts != nil
}

// next replies with a batch: a list of items, and whether they are the last; or with the error that ended the stream.
// The batch is empty, and not the last, if the context has ended, or if the host's wait of that number is parked.
func (s *Stream) next(ctx context.Context, c *Call, wait uint64) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
	if s.empty() {
		s.await(ctx, wait != 0)
		if wait != 0 && s.empty() {
			s.parked = append(s.parked, wait)
		}
	}
	if s.count == 0 && s.fail != nil {
		s.fail(c)
		return true
	}
	last = s.closed || s.ended && s.fail == nil
	c.Out.Array(2)
	c.Out.Array(s.count)
	c.Out.data = append(c.Out.data, s.items.data...)
	c.Out.parts, c.Out.Err = s.items.parts, s.items.Err
	c.Out.Bool(last)
	if s.full() {
		s.most = min(2*s.most, mostItems)
	}
	s.items, s.count = Writer{data: s.items.data[:0]}, 0
	s.changed.Broadcast()
	return last
}

// await waits until there is something to reply with; briefly: for a moment. Under mu.
func (s *Stream) await(ctx context.Context, briefly bool) {
	unlink := context.AfterFunc(ctx, s.wake)
	defer unlink()
	late := false
	if briefly {
		timer := time.AfterFunc(beforeParking, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			late = true
			s.changed.Broadcast()
		})
		defer timer.Stop()
	}
	s.waiting++
	for s.empty() && ctx.Err() == nil && !late {
		s.changed.Wait()
	}
	s.waiting--
}

// tell tells the host to ask again, in all its waits that are parked. Under mu.
func (s *Stream) tell() {
	for _, wait := range s.parked {
		go s.tellOne(wait)
	}
	s.parked = nil
}

func (s *Stream) tellOne(wait uint64) {
	for Notify(wakeHandler, binary.LittleEndian.AppendUint64(nil, wait)) != nil { // the host has too much to do
		select {
		case <-s.Closed: // it does not wait any more
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// start starts the goroutine. Under mu.
func (s *Stream) start() {
	if !s.started {
		s.started = true
		go s.produce()
	}
}

// empty reports whether there is nothing to reply with yet.
func (s *Stream) empty() bool { return s.count == 0 && !s.ended && !s.closed }

func (s *Stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *Stream) produce() {
	defer func() {
		s.mu.Lock()
		s.ended = true
		s.changed.Broadcast()
		s.tell()
		s.mu.Unlock()
		s.life.end(nil)
	}()
	s.run(s)
}

func (s *Stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.Closed)
	s.changed.Broadcast()
	s.tell()
	s.life.end(slot.ErrNobodyWaits)
}

// A Lifetime is that of the context of a function that returns a stream: until the stream ends, if there is one.
type Lifetime struct {
	cancel context.CancelCauseFunc
	unlink func() bool
	kept   bool
}

// Long returns a context that is cancelled when ctx is, until Returned. It may outlive ctx.
func Long(ctx context.Context) (context.Context, *Lifetime) {
	long, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return long, &Lifetime{cancel, unlink, false}
}

// Returned is called when the function has returned. The context goes on only for a stream.
func (l *Lifetime) Returned() {
	l.unlink()
	if !l.kept {
		l.cancel(nil)
	}
}

func (l *Lifetime) end(cause error) {
	if l != nil {
		l.cancel(cause)
	}
}
