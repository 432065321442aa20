package guest

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoHandler says that the host has no handler of that name (gothreads.open(..., handlers={...})).
var ErrNoHandler = errors.New("the host has no such handler")

// ErrBusy says that too many calls of the host are under way.
var ErrBusy = errors.New("too many calls of the host at a time")

// A HostError is what a handler of the host's raised. The module goes on.
type HostError struct {
	Handler string
	Text    string // such as "ValueError: no such size"
}

func (e *HostError) Error() string { return fmt.Sprintf("handler %s: %s", e.Handler, e.Text) }

// Call calls a handler of the host's and waits for its reply. Only this goroutine waits: no thread does, on
// either side, unless the handler itself keeps one. Any number of goroutines may call, and replies come in any order.
//
// What the handler raises is a *HostError. When the host cancels the call, the error is context.Canceled.
func Call(name string, payload []byte) ([]byte, error) {
	return CallContext(context.Background(), name, payload)
}
