package wire

import "context"

// MustCall is Call for a func without an error result: it panics if the call fails. See Guard. No context ends it: it
// may wait in another goroutine than the call's, where nothing saves the program from a panic.
func (o Object) MustCall(w *Writer) *Reader {
	r, err := o.Call(context.Background(), w)
	if err != nil {
		panic(&failure{err})
	}
	return r
}

// Ignore skips a result that the func does not return.
func (r *Reader) Ignore() { r.at = len(r.in) }

// MustEnd is End for a func without an error result: it panics.
func (o Object) MustEnd(r *Reader) {
	if err := o.End(r); err != nil {
		panic(&failure{err})
	}
}

// A failure is the panic of a func without an error result, when Python has failed.
type failure struct{ err error }

func (f *failure) Error() string {
	return f.err.Error() + ". (The func has no error result, so the goroutine that called it panics)"
}

// Guard is deferred while a function runs that has funcs without an error result: the call fails if one of them does.
// Only the goroutine of the call can be saved so; others end the program, as a panic does.
func (c *Call) Guard() {
	if p := recover(); p != nil {
		c.Fail(failed(p), 0)
	}
}

// Guard is deferred while the items of a stream are made: the stream fails if such a func does.
func (s *Stream) Guard() {
	if p := recover(); p != nil {
		err := failed(p)
		s.Fail(func(c *Call) { c.Fail(err, 0) })
	}
}

// failed returns the error of a failure. It panics with any other panic.
func failed(p any) error {
	f, ok := p.(*failure)
	if !ok {
		panic(p)
	}
	return f.err
}
