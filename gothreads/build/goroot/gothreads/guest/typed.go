package guest

import (
	"context"
	"strings"

	"gothreads/guest/wire"
)

// A request to a typed function has its name after this, instead of a handler's name.
const typedPrefix = "gothreads:"

// An Exception is what a Python object raised that an exported function was given: a callable, or a file object. It is
// in the error that Go gets, with its Type, such as "ValueError", and its Text. A function that returns this error
// raises the exception itself.
type Exception = wire.Exception

// ErrCallOver says that Go uses such an object after the call for which Python lent it.
var ErrCallOver = wire.ErrCallOver

func init() { wire.WatchCancels = watchCancels }

// typed returns the typed function that a request names.
func typed(name string) (f wire.Function, found bool) {
	if name, found = strings.CutPrefix(name, typedPrefix); found {
		return wire.Exported(name)
	}
	return f, false
}

// call calls a typed function. The payload is its arguments.
func call(f wire.Function, payload []byte, c caller, request uint32) ([]byte, status) {
	ctx := context.Background()
	if f.TakesContext {
		var end func()
		ctx, end = c.begin(request)
		defer end()
	}
	call := wire.NewCall(payload)
	f.Call(ctx, &call)
	reply, parts := call.Reply()
	switch {
	case call.Status == wire.Refused:
		return reply, statusRefused
	case call.Status == wire.Failed:
		return reply, statusFailed
	case parts != nil:
		c.keep(parts)
		return reply, statusParts
	}
	return reply, statusOK
}
