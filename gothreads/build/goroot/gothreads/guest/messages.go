package guest

import (
	"context"
	"errors"
	"fmt"

	"gothreads/guest/slot"
)

// ErrNoHandler says that the host has no handler of that name (gothreads.open(..., handlers={...})).
var ErrNoHandler = errors.New("the host has no such handler")

// ErrBusy says that too many calls to the host are in progress.
var ErrBusy = errors.New("too many calls of the host at a time")

// A HostError is an exception that a handler in the host raised. The module keeps running.
type HostError struct {
	Handler string
	Text    string // such as "ValueError: no such size"
}

func (e *HostError) Error() string { return fmt.Sprintf("handler %s: %s", e.Handler, e.Text) }

// An Exception is what a Python object raised that an exported function was given: a callable, or a file object; or one
// that implements a variable with //gothreads:import. It is in the error that Go gets, with its Type, such as
// "ValueError", and its Text. An exported function that returns this error raises the exception itself.
type Exception = slot.Exception

// ErrCallOver says that Go uses such an object after the call for which Python lent it.
var ErrCallOver = slot.ErrCallOver

// Call calls a handler in the host and waits for its reply. Only this goroutine waits; it blocks no thread on either
// side, unless the handler itself occupies one. Any number of goroutines may call, and replies come in any order.
//
// If the handler raises an exception, the error is a *HostError. If the host cancels the call, it is context.Canceled.
func Call(name string, payload []byte) ([]byte, error) {
	return CallContext(context.Background(), name, payload)
}
