package wire

import (
	"context"
	"io"

	"gothreads/guest/slot"
)

// Pieces are what a handler writes: a stream of bytes, which begins with the type of its content.
type Pieces struct {
	stream *Stream
	kind   string
	begun  chan struct{} // closed when the host may know the type, or there will be no piece
	over   error         // set before begun is closed, if an error came before all pieces
}

// Opener returns what opens a stream of the pieces that run writes until it returns: a handler of that name, which reads
// the request's body, a file object. The reply is the stream's number, and the content's type: it waits until there is
// a first piece, so an error before that is the request's own.
func Opener(name string, run func(ctx context.Context, body io.Reader, p *Pieces) error) slot.Typed {
	return typed(func(ctx context.Context, c *Call, _ Base) {
		if !c.In.Fixed(1) {
			c.Refuse()
			return
		}
		ctx, life := Long(ctx)
		defer life.Returned()
		body := c.In.Object(ctx, name+": body")
		if c.In.Bad("body") || !c.In.End() {
			c.Refuse()
			return
		}
		p := &Pieces{begun: make(chan struct{})}
		c.Out.Array(2)
		p.stream = c.Stream(life, func(s *Stream) {
			err := run(ctx, body.Reader(), p)
			if err != nil {
				s.Fail(func(c *Call) { c.Fail(err, 0) })
			}
			if !p.hasBegun() {
				p.over = err
				close(p.begun)
			}
		})
		p.stream.mu.Lock()
		p.stream.start()
		p.stream.mu.Unlock()
		select {
		case <-p.begun:
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil && !p.hasBegun(): // nobody waits
			remove(p.stream.id)
			p.stream.close()
			c.Out.String("")
		case p.over != nil:
			remove(p.stream.id)
			c.Fail(p.over, 0)
		default:
			c.Out.String(p.kind)
		}
	})
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
