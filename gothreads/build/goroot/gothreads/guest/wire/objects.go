package wire

import (
	"context"
	"fmt"
	"io"

	"gothreads/guest/slot"
)

// CallHost calls a handler in the host: guest.CallContext. Generated code sets it, where it needs one.
var CallHost func(ctx context.Context, name string, payload []byte) ([]byte, error)

// An Object is a Python object that an exported function was given: a callable, or a file object. Python lends it: its
// number is valid until the call ends. The host's side is gothreads/typed/lending.py.
type Object struct {
	ctx    context.Context
	number uint64
	name   string // for errors: "fit: progress"

	handler string // the host's, for its calls
}

// objectHandler is the host's handler for calls of objects.
const objectHandler = "gothreads:object"

// How the host has answered: the first byte of its reply.
const (
	objectReturned = iota // the result follows
	objectRaised          // an exception follows
	objectOver            // the object is not lent any more
)

// Object reads an object. When ctx ends, so does each wait for the object.
func (r *Reader) Object(ctx context.Context, name string) Object {
	return Object{ctx, r.Uint(64), name, objectHandler}
}

// Arguments returns where to write n arguments for Call.
func (o Object) Arguments(n int) *Writer {
	w := &Writer{whole: true}
	w.Array(2)
	w.Uint(o.number)
	w.Array(n)
	return w
}

// Call calls the object with the arguments in w, and returns where to read its result.
func (o Object) Call(ctx context.Context, w *Writer) (*Reader, error) {
	result, err := o.call(ctx, w)
	return &Reader{in: result}, err
}

// End ends the reading of a result. It returns the error, if the result was not of its type.
func (o Object) End(r *Reader) error {
	if r.End() {
		return nil
	}
	return fmt.Errorf("%s: its result%s: %s", o.name, r.Fault.Path, r.Fault.Message)
}

// call returns the object's result, as the host has encoded it.
func (o Object) call(ctx context.Context, w *Writer) ([]byte, error) {
	if w.Err != nil {
		return nil, fmt.Errorf("%s: an argument cannot be passed on: %w", o.name, w.Err)
	}
	reply, err := CallHost(ctx, o.handler, w.data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	if len(reply) > 0 {
		switch reply[0] {
		case objectReturned:
			return reply[1:], nil
		case objectRaised:
			r, e := Reader{in: reply[1:]}, new(slot.Exception)
			if r.Fixed(3) {
				e.Number, e.Type, e.Text = r.Uint(64), r.String(), r.String()
			}
			if r.End() {
				return nil, fmt.Errorf("%s: %w", o.name, e)
			}
		case objectOver:
			return nil, fmt.Errorf("%s: %w", o.name, slot.ErrCallOver)
		}
	}
	return nil, fmt.Errorf("%s: the host's answer is damaged", o.name)
}

// mostChunk is the most that is read from a file object, or written to it, in one call. Bytes.
const mostChunk = 256 << 10

// Reader returns the object as what io calls a Reader.
func (o Object) Reader() io.Reader { return objectReader{o} }

// Writer returns the object as what io calls a Writer.
func (o Object) Writer() io.Writer { return objectWriter{o} }

type objectReader struct{ object Object }

func (f objectReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	data, err := f.read(min(len(p), mostChunk))
	return copy(p, data), err
}

// WriteTo is what io.Copy uses: it takes as much at a time as there may be.
func (f objectReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		data, err := f.read(mostChunk)
		if err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
		n, err := w.Write(data)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// read returns up to size bytes; io.EOF: there are no more.
func (f objectReader) read(size int) ([]byte, error) {
	w := f.object.Arguments(1)
	w.Int(int64(size))
	data, err := f.object.call(f.object.ctx, w)
	switch {
	case err != nil:
		return nil, err
	case len(data) == 0:
		return nil, io.EOF
	case len(data) > size:
		return nil, fmt.Errorf("%s: its read returned %d bytes, of %d that were asked for", f.object.name, len(data), size)
	}
	return data, nil
}

type objectWriter struct{ object Object }

func (f objectWriter) Write(p []byte) (written int, err error) {
	for written < len(p) {
		chunk := p[written:min(len(p), written+mostChunk)]
		w := f.object.Arguments(1)
		w.Bytes(chunk)
		r, err := f.object.Call(f.object.ctx, w)
		if err != nil {
			return written, err
		}
		n := len(chunk)
		if !r.Nil() {
			n = int(r.Int(64))
		}
		if err := f.object.End(r); err != nil {
			return written, err
		}
		if n <= 0 || n > len(chunk) {
			return written, fmt.Errorf("%s: its write returned %d, for %d bytes", f.object.name, n, len(chunk))
		}
		written += n
	}
	return written, nil
}
