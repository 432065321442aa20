// Handlers that stream, for the tests.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

// handlers is how many handlers of "wait" and "flood" are running, nobody how many of them found that nobody waits.
// taken is how many bytes "flood" has got rid of, and read how many "slow" has read.
var handlers, nobody, taken, read atomic.Int64

//go:wasmexport running
func running() int64 { return handlers.Load() }

//go:wasmexport left
func left() int64 { return nobody.Load() }

//go:wasmexport sent
func sent() int64 { return taken.Load() }

//go:wasmexport got
func got() int64 { return read.Load() }

// done ends a handler that runs until nobody waits.
func done(ctx context.Context) {
	handlers.Add(-1)
	if errors.Is(context.Cause(ctx), guest.ErrNobodyWaits) {
		nobody.Add(1)
	}
}

func init() {
	guest.Handle("plain", func(payload []byte) ([]byte, error) { return bytes.ToUpper(payload), nil })

	// stuck waits until nobody waits, as a call of the ordinary kind.
	guest.HandleContext("stuck", func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})

	// upper answers a piece for each piece that it reads, which it flushes.
	guest.HandleStream("upper", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		answer.SetContentType("text/plain; charset=utf-8")
		piece := make([]byte, 1<<16)
		for {
			n, err := body.Read(piece)
			answer.Write(bytes.ToUpper(piece[:n]))
			if err := answer.Flush(); err != nil {
				return err
			}
			if err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})

	// copy copies, and never flushes.
	guest.HandleStream("copy", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		_, err := io.Copy(answer, body)
		return err
	})

	// hash answers with what it has read, at the end.
	guest.HandleStream("hash", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		sum := sha256.New()
		n, err := io.Copy(sum, body)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		_, err = fmt.Fprintf(answer, "%d %x", n, sum.Sum(nil))
		return err
	})

	// events sends an event for each line, and one before: that it is there.
	guest.HandleStream("events", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		answer.SetContentType("text/event-stream")
		fmt.Fprint(answer, "event: hello\ndata: 0\n\n")
		answer.Flush()
		for lines := bufio.NewScanner(body); lines.Scan(); {
			fmt.Fprintf(answer, "data: %s\n\n", lines.Text())
			if err := answer.Flush(); err != nil {
				return err
			}
		}
		return nil
	})

	// wait says that it is there, and waits until nobody waits.
	guest.HandleStream("wait", func(ctx context.Context, _ io.Reader, answer *guest.StreamWriter) error {
		handlers.Add(1)
		defer done(ctx)
		answer.Flush()
		<-ctx.Done()
		return ctx.Err()
	})

	// mute waits, and says nothing.
	guest.HandleStream("mute", func(ctx context.Context, _ io.Reader, _ *guest.StreamWriter) error {
		handlers.Add(1)
		defer done(ctx)
		<-ctx.Done()
		return ctx.Err()
	})

	// read reads, and says nothing.
	guest.HandleStream("read", func(ctx context.Context, body io.Reader, _ *guest.StreamWriter) error {
		handlers.Add(1)
		defer done(ctx)
		_, err := io.Copy(io.Discard, body)
		return err
	})

	// flood writes for ever.
	guest.HandleStream("flood", func(ctx context.Context, _ io.Reader, answer *guest.StreamWriter) error {
		handlers.Add(1)
		defer done(ctx)
		for {
			n, err := answer.Write(make([]byte, 10_000))
			if err != nil {
				return err
			}
			taken.Add(int64(n))
		}
	})

	// slow reads a little whenever it is called, until the end.
	guest.HandleStream("slow", func(ctx context.Context, body io.Reader, answer *guest.StreamWriter) error {
		answer.Flush()
		for piece := make([]byte, 100); ; time.Sleep(10 * time.Millisecond) {
			n, err := body.Read(piece)
			read.Add(int64(n))
			if err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})

	// fail fails after it has written, and perhaps flushed, the body.
	for name, flushes := range map[string]bool{"fail late": true, "fail early": false} {
		guest.HandleStream(name, func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
			if _, err := io.Copy(answer, body); err != nil {
				return err
			}
			if flushes {
				answer.Flush()
			}
			return errors.New("as asked")
		})
	}

	// type sets the content type that the body says, and answers with the error.
	guest.HandleStream("type", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		kind, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(answer, answer.SetContentType(string(kind)))
		return err
	})

	// late goes on after it has returned.
	guest.HandleStream("late", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		go func() {
			for {
				if _, err := answer.Write([]byte("x")); err != nil {
					taken.Store(-1)
					return
				}
				answer.Flush()
			}
		}()
		_, err := io.Copy(io.Discard, body)
		return err
	})
}

func main() { select {} }
