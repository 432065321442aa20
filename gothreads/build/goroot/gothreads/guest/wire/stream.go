package wire

import (
	"context"
	"sync"

	"gothreads/guest/slot"
)

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
type Stream struct {
	// Closed is closed when the host wants no more items.
	Closed chan struct{}

	id   uint64
	run  func(s *Stream)
	life *Lifetime // of the function's context, if it takes one

	mu      sync.Mutex
	changed sync.Cond
	items   Writer
	count   int // of items
	most    int // items in a batch
	waiting int // requests that wait for an item
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
		id, ok := c.id()
		if !ok {
			return
		}
		streams.Lock()
		s := streams.byID[id]
		streams.Unlock()
		if s == nil { // it was closed meanwhile
			c.Out.Array(2)
			c.Out.Array(0)
			c.Out.Bool(true)
		} else if last := s.next(ctx, c); last {
			remove(id)
		}
	})
	Export("stream close", func(c *Call, _ Base) {
		id, ok := c.id()
		if !ok {
			return
		}
		if s := remove(id); s != nil {
			s.close()
		}
		c.Out.Array(0)
	})
})

// id reads the argument of a request, the number of a stream. False: the request is refused.
func (c *Call) id() (id uint64, ok bool) {
	if c.In.Fixed(1) {
		id = c.In.Uint(64)
	}
	if c.In.End() {
		return id, true
	}
	c.Refuse()
	return 0, false
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
// The batch is empty, and not the last, if the context has ended.
func (s *Stream) next(ctx context.Context, c *Call) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
	if s.empty() {
		unlink := context.AfterFunc(ctx, s.wake)
		defer unlink()
		s.waiting++
		for s.empty() && ctx.Err() == nil {
			s.changed.Wait()
		}
		s.waiting--
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
