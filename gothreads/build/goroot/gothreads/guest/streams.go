package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"gothreads/guest/slot"
	"gothreads/guest/wire"
)

// A StreamHandler answers one request while it comes: it reads the body, of any size, and writes the answer, in any
// order. Nothing is read ahead of it, and what it writes waits for who takes it, so neither is ever in memory as a
// whole. It may use both until it returns. ctx is cancelled when nobody waits for the answer any more, with
// ErrNobodyWaits as its cause; then reading and writing fail, too.
//
// An error before anything was sent is the request's answer, as that of a [Handler] is. After that the answer breaks
// off, so that nobody takes it for complete.
type StreamHandler func(ctx context.Context, body io.Reader, answer *StreamWriter) error

// HandleStream registers a handler that streams:
//
//	guest.HandleStream("gzip", func(ctx context.Context, body io.Reader, answer *guest.StreamWriter) error {
//		answer.SetContentType("application/gzip")
//		zip := gzip.NewWriter(answer)
//		if _, err := io.Copy(zip, body); err != nil {
//			return err
//		}
//		return zip.Close()
//	})
//
// and the host calls it: app.stream("gzip", file) in Python, POST /api/request/gzip over HTTP, also as a WebSocket.
// app.request calls it, too, with the whole payload, and for the whole answer. It panics like [Handle].
func HandleStream(name string, h StreamHandler) {
	if h == nil {
		panic("guest.HandleStream: a handler needs a function")
	}
	watchCancels()
	callHost()
	register("guest.HandleStream", name, slot.Handler{
		WithContext: func(ctx context.Context, payload []byte) ([]byte, error) {
			var whole bytes.Buffer
			err := serve(ctx, h, bytes.NewReader(payload), &StreamWriter{
				begin: func(string) {},
				write: func(piece []byte) error { whole.Write(piece); return nil },
			})
			return whole.Bytes(), err
		},
		Open: wire.Opener(name, func(ctx context.Context, body io.Reader, p *wire.Pieces) error {
			return serve(ctx, h, body, &StreamWriter{begin: p.Begin, write: p.Write})
		}),
	})
}

// callHost lets package wire call the host, to read bodies, and to tell it that there are pieces. Handlers may be
// registered at any time, but nobody reads these variables before the first of them, unless generated code has set them,
// which it does before main.
var callHost = sync.OnceFunc(func() {
	if wire.CallHost == nil {
		wire.CallHost = CallContext
	}
	if wire.Notify == nil {
		wire.Notify = Notify
	}
})

func serve(ctx context.Context, h StreamHandler, body io.Reader, w *StreamWriter) error {
	return w.end(h(ctx, body, w))
}

// mostPiece is the most that a StreamWriter collects before it sends it, in bytes. It is less than what a batch of the
// stream holds, so few pieces are on their way.
const mostPiece = 32 << 10

// mostType is the length of the longest content type, in bytes.
const mostType = 255

var errAnswered = errors.New("the answer is complete: its handler has returned")

// A StreamWriter takes the answer of a StreamHandler. What is written is sent when it has 32 KiB, by Flush, and when
// the handler returns. Several goroutines may use it.
type StreamWriter struct {
	begin func(contentType string)
	write func(piece []byte) error

	mu          sync.Mutex
	contentType string
	piece       []byte // what is not sent yet
	begun       bool
	err         error // of all further writes
}

// SetContentType says what the answer is, such as "text/event-stream"; by default, "application/octet-stream". It has no
// effect, and returns an error, if that is no media type, or if something was sent already.
func (w *StreamWriter) SetContentType(contentType string) error {
	main, sub, _ := strings.Cut(contentType, "/")
	if main == "" || sub == "" || len(contentType) > mostType || strings.ContainsFunc(contentType, notInHeader) {
		return fmt.Errorf("%.100q is no media type, such as text/plain", contentType)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun {
		return errors.New("the content type has been sent: it must be set before the first Flush")
	}
	w.contentType = contentType
	return nil
}

func notInHeader(r rune) bool { return r < ' ' || r > '~' }

// Write writes a part of the answer. It waits while what was sent before is not taken. An error says that nobody wants
// the rest.
func (w *StreamWriter) Write(p []byte) (written int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(p) > 0 && w.err == nil {
		n := min(len(p), mostPiece-len(w.piece))
		w.piece = append(w.piece, p[:n]...)
		p, written = p[n:], written+n
		if len(w.piece) == mostPiece {
			w.send()
		}
	}
	return written, w.err
}

// Flush sends what was written so far: as one message, where the client has a WebSocket. The first Flush sends the
// content type even if nothing was written.
func (w *StreamWriter) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.send()
	return w.err
}

// send sends what was written. Under mu: so pieces are in order, and all others wait while this one does.
func (w *StreamWriter) send() {
	if w.err != nil {
		return
	}
	if !w.begun {
		w.begun = true
		w.begin(w.contentType)
	}
	if len(w.piece) > 0 {
		w.err = w.write(w.piece)
		w.piece = w.piece[:0]
	}
}

// end ends the answer, and returns the error with which it ends. After an error, what was not sent yet is not an
// answer if it is the beginning; otherwise the client gets it.
func (w *StreamWriter) end(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil || w.begun {
		w.send()
	}
	if err == nil {
		err = w.err
	}
	w.err = errAnswered
	return err
}
