package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// A Function is a typed function: the generated code that reads its arguments, calls it, and writes its results.
type Function struct {
	Call         func(ctx context.Context, c *Call)
	TakesContext bool
}

// functions: written by init functions only, which have all run before the host calls anything.
var functions = map[string]Function{}

// WatchCancels is called before a function is exported that takes a context. Package guest sets it.
var WatchCancels func()

// Export exports a function.
func Export(name string, call func(c *Call)) {
	functions[name] = Function{Call: func(_ context.Context, c *Call) { call(c) }}
}

// ExportContext exports a function that takes a context.
func ExportContext(name string, call func(ctx context.Context, c *Call)) {
	WatchCancels()
	functions[name] = Function{call, true}
}

// Exported returns the function of that name.
func Exported(name string) (Function, bool) {
	f, found := functions[name]
	return f, found
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

// NewCall returns the call of a message. The reply may overwrite the message, which the arguments do not keep unless it
// is long.
func NewCall(message []byte) Call {
	c := Call{In: NewReader(message)}
	if cap(message) <= MostLent {
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
	var raised *Exception
	if !errors.As(err, &raised) || raised.number == 0 {
		c.Out.Array(2 * kinds)
		return
	}
	c.Out.Array(2*kinds + 2)
	c.Out.Int(raisedKind)
	c.Out.Uint(raised.number)
}

// Reply returns the reply, and the parts to which it refers, which must stay alive until the host has copied them. If
// there are any, the reply begins with their number, and with the address and the length of each, in four bytes each.
func (c *Call) Reply() (reply []byte, parts [][]byte) {
	if err := c.Out.Err; err != nil {
		c.Fail(fmt.Errorf("the result cannot be passed on: %w", err), 0)
	}
	out := &c.Out
	if len(out.parts) == 0 {
		return out.data, nil
	}
	reply = binary.LittleEndian.AppendUint32(make([]byte, 0, 4+8*len(out.parts)+len(out.data)), uint32(len(out.parts)))
	for _, part := range out.parts {
		reply = binary.LittleEndian.AppendUint32(reply, uint32(uintptr(unsafe.Pointer(unsafe.SliceData(part)))))
		reply = binary.LittleEndian.AppendUint32(reply, uint32(len(part)))
	}
	return append(reply, out.data...), out.parts
}
