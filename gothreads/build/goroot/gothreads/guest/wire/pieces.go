package wire

import (
	"context"
	"io"
	"sync"
	"time"

	"gothreads/guest/slot"
)

// Pieces are what a handler writes: a stream of bytes, which begins with the type of its content.
type Pieces struct {
	stream *Stream
	kind   string
	begun  chan struct{} // closed when the host may know the type, or there will be no piece
	over   error         // set before begun is closed, if an error came before all pieces
}

// exportPieces exports what the host asks whether a stream has begun with.
var exportPieces = sync.OnceFunc(func() {
	ExportContext("stream begun", func(ctx context.Context, c *Call, _ Base) {
		id, wait, ok := c.idAndWait()
		if !ok {
			return
		}
		c.Out.Array(2)
		c.Out.Uint(id)
		if s := find(id); s == nil || s.pieces == nil { // it was closed meanwhile
			c.Out.String("")
		} else {
			s.pieces.replyBegun(ctx, c, wait)
		}
	})
})

// Opener returns what opens a stream of the pieces that run writes until it returns: a handler of that name, which reads
// the request's body, a file object. The reply is the stream's number, and the content's type: it waits until there is
// a first piece, so an error before that is the request's own. Its second argument is the number of the host's wait: if
// that is parked, the type is nil, and the host asks again, with the request "stream begun".
func Opener(name string, run func(ctx context.Context, body io.Reader, p *Pieces) error) slot.Typed {
	exportPieces()
	return typed(func(ctx context.Context, c *Call, _ Base) {
		if !c.In.Fixed(2) {
			c.Refuse()
			return
		}
		long, life := Long(ctx)
		defer life.Returned()
		body := c.In.Object(long, name+": body")
		if c.In.Bad("body") {
			c.Refuse()
			return
		}
		wait := c.In.Uint(64)
		if !c.In.End() {
			c.Refuse()
			return
		}
		p := &Pieces{begun: make(chan struct{})}
		c.Out.Array(2)
		p.stream = c.Stream(life, func(s *Stream) {
			err := run(long, body.Reader(), p)
			if err != nil {
				s.Fail(func(c *Call) { c.Fail(err, 0) })
			}
			if !p.hasBegun() {
				p.over = err
				close(p.begun)
			}
		})
		p.stream.mu.Lock()
		p.stream.pieces = p
		p.stream.start()
		p.stream.mu.Unlock()
		p.replyBegun(ctx, c, wait)
	})
}

// replyBegun waits until there is a first piece, and replies with the content's type, or with the error that came
// before. ctx: of a request that asks for it. See Opener.
func (p *Pieces) replyBegun(ctx context.Context, c *Call, wait uint64) {
	var late <-chan time.Time
	if wait != 0 {
		timer := time.NewTimer(beforeParking)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-p.begun:
	case <-ctx.Done():
	case <-late:
	}
	switch {
	case !p.hasBegun() && ctx.Err() != nil: // nobody waits
		remove(p.stream.id)
		p.stream.close()
		c.Out.String("")
	case wait != 0 && p.park(wait):
		c.Out.Nil()
	case p.over != nil:
		remove(p.stream.id)
		c.Fail(p.over, 0)
	default:
		c.Out.String(p.kind)
	}
}

// park parks the host's wait of that number. False: the stream has begun.
func (p *Pieces) park(wait uint64) bool {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	if p.hasBegun() { // whoever closes begun locks mu afterwards, to tell
		return false
	}
	p.stream.parked = append(p.stream.parked, wait)
	return true
}

func (p *Pieces) hasBegun() bool {
	select {
	case <-p.begun:
		return true
	default:
		return false
	}
}

// Begin tells the host the content's type. Once, and before the first piece; by one goroutine at a time, as Write.
func (p *Pieces) Begin(kind string) {
	p.kind = kind
	close(p.begun)
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.stream.tell()
}

// Write writes a piece, which it copies, and waits until there is room for another. ErrNobodyWaits: the host wants no
// more.
func (p *Pieces) Write(piece []byte) error {
	p.stream.Item().Bytes(piece)
	if !p.stream.Next() {
		return slot.ErrNobodyWaits
	}
	return nil
}
