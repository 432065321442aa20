package guest

import (
	"context"

	"gothreads/guest/wire"
)

// A request to a typed function has its name after this, instead of a handler's name.
const typedPrefix = "gothreads:"

func init() { wire.WatchCancels = watchCancels }

// call calls a typed function. The payload is its arguments.
func call(f wire.Function, payload []byte, c caller, request uint32) outcome {
	ctx := context.Background()
	if f.TakesContext {
		var end func()
		ctx, end = c.begin(request)
		defer end()
	}
	call := wire.NewCall(payload)
	f.Call(ctx, &call)
	data, parts := call.Reply()
	switch {
	case call.Status == wire.Refused:
		return outcome{data: data, status: statusRefused}
	case call.Status == wire.Failed:
		return outcome{data: data, status: statusFailed}
	case parts != nil:
		return outcome{data: data, status: statusParts, parts: parts}
	}
	return outcome{data: data, status: statusOK}
}
