package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"gothreads/guest/slot"
)

// Export exports a function: the generated code that reads its arguments, calls it, and writes its results.
func Export(name string, call func(c *Call, base Base)) {
	slot.Export(name, func(s *slot.Slot, _ slot.Request, payload []byte) ([]byte, slot.Status, bool) {
		c := newCall(payload)
		call(&c, 0)
		return c.reply(s)
	})
}

// ExportContext exports a function that takes a context.
func ExportContext(name string, call func(ctx context.Context, c *Call, base Base)) {
	slot.WatchCancels()
	slot.Export(name, typed(call))
}

// typed returns what answers requests for a function whose context ends only after WatchCancels.
func typed(call func(ctx context.Context, c *Call, base Base)) slot.Typed {
	return func(s *slot.Slot, r slot.Request, payload []byte) ([]byte, slot.Status, bool) {
		ctx, end := s.Begin(r)
		defer end()
		c := newCall(payload)
		call(ctx, &c, 0)
		return c.reply(s)
	}
}

// A Call is one call of an exported function.
type Call struct {
	// In has the arguments; Out gets the results, or the error.
	In  Reader
	Out Writer
	// Status says what the reply is.
	Status Status
}

// Status is the outcome of a call.
type Status int

const (
	// Returned: the reply is the results.
	Returned Status = iota
	// Refused: an argument is wrong. The function has not run.
	Refused
	// Failed: the function returned an error.
	Failed
)

// newCall returns the call of a message. The reply may overwrite the message, which the arguments do not keep unless it
// is long.
func newCall(message []byte) Call {
	c := Call{In: NewReader(message)}
	if cap(message) <= slot.MostLent {
		c.Out.data = message[:0]
	}
	return c
}

// Refuse ends the call: there was a fault in the arguments.
func (c *Call) Refuse() {
	c.Status = Refused
	c.Out.reset()
	c.Out.Array(2)
	c.Out.String(c.In.Fault.Path)
	c.Out.String(c.In.Fault.Message)
}

// raisedKind is the kind of an error that is an exception of Python's. Its value is the exception's number.
const raisedKind = -1

// Fail ends the call with an error. The generated code goes on with so many pairs: the number of a kind of error that
// it is, and the value of that kind, or nil.
func (c *Call) Fail(err error, kinds int) {
	c.Status = Failed
	c.Out.reset()
	c.Out.Array(2)
	c.Out.String(err.Error())
	var raised *slot.Exception
	if !errors.As(err, &raised) || raised.Number == 0 {
		c.Out.Array(2 * kinds)
		return
	}
	c.Out.Array(2*kinds + 2)
	c.Out.Int(raisedKind)
	c.Out.Uint(raised.Number)
}

// reply answers the request. lent: no argument lies in the message, or those that do ended with the call.
func (c *Call) reply(s *slot.Slot) (reply []byte, status slot.Status, lent bool) {
	reply, status = c.answer(s)
	return reply, status, !c.In.shared
}

// answer answers the request. If the reply refers to other memory, it begins with the number of these parts, and with
// the kind, the address and the length of each, in four bytes each; the slot keeps them until the host has copied them,
// each once, to where numbers of that kind belong.
func (c *Call) answer(s *slot.Slot) ([]byte, slot.Status) {
	if err := c.Out.Err; err != nil {
		c.Fail(fmt.Errorf("the result cannot be passed on: %w", err), 0)
	}
	out := &c.Out
	switch {
	case c.Status == Refused:
		return out.data, slot.Refused
	case c.Status == Failed:
		return out.data, slot.Failed
	case len(out.parts) == 0:
		return out.data, slot.OK
	}
	reply := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+12*len(out.parts)+len(out.data)), uint32(len(out.parts)))
	kept := make([][]byte, len(out.parts))
	for i, p := range out.parts {
		reply = binary.LittleEndian.AppendUint32(reply, uint32(p.kind))
		reply = binary.LittleEndian.AppendUint32(reply, uint32(uintptr(unsafe.Pointer(unsafe.SliceData(p.data)))))
		reply = binary.LittleEndian.AppendUint32(reply, uint32(len(p.data)))
		kept[i] = p.data
	}
	s.Keep(kept)
	return append(reply, out.data...), slot.Parts
}
