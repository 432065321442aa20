// Package guest is the Go side of gothreads: it lets a module exchange bytes with its host.
//
// A program registers handlers by name, usually in init or at the start of main:
//
//	guest.Handle("search", func(payload []byte) ([]byte, error) { … })
//
// and the host calls them: app.request("search", b"…") in Python, POST /api/request/search over HTTP. A request that
// arrives early waits while main works, but only for some seconds: register handlers before anything that takes long.
// Handlers of values instead of bytes: [HandleJSON].
//
// Handlers run concurrently with each other, with main and with exported functions: shared state needs locks, as in any
// Go program.
//
// Ownership of memory: the payload belongs to the handler, for good; nothing writes to it any more. The reply belongs
// to the host until it has copied it: a handler that keeps the reply must not change it. (HandleLent is for handlers
// that keep neither; it creates no garbage.)
package guest

import (
	"context"
	"fmt"

	"gothreads/guest/slot"
)

// A Handler answers one request. An error reaches the caller as an exception with the error's text. A panic
// ends the whole module, as a panic in any goroutine does.
type Handler func(payload []byte) ([]byte, error)

// A ContextHandler is a Handler that learns when nobody waits for its answer any more: the caller has timed out or has
// gone. Then ctx is cancelled, with ErrNobodyWaits as its cause, and the handler's result is discarded. ctx.Deadline
// is when the caller's timeout is over (not with on_timeout="continue": then nothing is cancelled).
type ContextHandler func(ctx context.Context, payload []byte) ([]byte, error)

// ErrNobodyWaits is the cause when the context of a ContextHandler is cancelled.
var ErrNobodyWaits = slot.ErrNobodyWaits

// Handle registers a handler. It panics if the name is empty or taken, or if h is nil.
func Handle(name string, h Handler) {
	if h == nil {
		panic("guest.Handle: a handler needs a function")
	}
	register("guest.Handle", name, slot.Handler{Plain: h})
}

// HandleLent registers a handler to which the payload is only lent: it is valid until the handler returns, and the
// handler must not keep any part of it. The reply may be a part of it. In return the next payload arrives in the same
// memory, so that payloads cause no garbage collections. (Above 256 KiB only until one comes.) It panics like Handle.
func HandleLent(name string, h Handler) {
	if h == nil {
		panic("guest.HandleLent: a handler needs a function")
	}
	register("guest.HandleLent", name, slot.Handler{Plain: h, Lent: true})
}

// HandleContext registers a handler that takes a context. It panics like Handle.
func HandleContext(name string, h ContextHandler) {
	if h == nil {
		panic("guest.HandleContext: a handler needs a function")
	}
	watchCancels()
	register("guest.HandleContext", name, slot.Handler{WithContext: h})
}

func init() { slot.WatchCancels = watchCancels }

func register(who, name string, h slot.Handler) {
	if name == "" {
		panic(who + ": a handler needs a name")
	}
	if !slot.Register(name, h) {
		panic(fmt.Sprintf("%s: %q is registered already", who, name))
	}
}
