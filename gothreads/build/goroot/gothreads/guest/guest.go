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
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Handler answers one request. An error reaches the caller as an exception with the error's text. A panic
// ends the whole module, as a panic in any goroutine does.
type Handler func(payload []byte) ([]byte, error)

// A ContextHandler is a Handler that learns when nobody waits for its answer any more: the caller has timed out or has
// gone. Then ctx is cancelled, with ErrNobodyWaits as its cause, and the handler's result is discarded.
type ContextHandler func(ctx context.Context, payload []byte) ([]byte, error)

// ErrNobodyWaits is the cause when the context of a ContextHandler is cancelled.
var ErrNobodyWaits = errors.New("nobody waits for the answer any more")

type status uint32

const (
	statusOK      status = iota // the reply is the handler's
	statusError                 // the reply is the error's text
	statusUnknown               // no such handler; the reply lists the registered ones, one per line
	statusRefused               // an argument of a typed function is wrong (wire/call.go)
	statusFailed                // a typed function returned an error
	statusParts                 // the reply of a typed function refers to more memory
)

var handlers = struct {
	sync.RWMutex
	byName map[string]handler
}{byName: map[string]handler{}}

// handler holds one of the two kinds. lent: the payload is valid only until the handler returns.
type handler struct {
	plain       Handler
	withContext ContextHandler
	lent        bool
}

// Handle registers a handler. It panics if the name is empty or taken, or if h is nil.
func Handle(name string, h Handler) {
	if h == nil {
		panic("guest.Handle: a handler needs a function")
	}
	register("guest.Handle", name, handler{plain: h})
}

// HandleLent registers a handler to which the payload is only lent: it is valid until the handler returns, and the
// handler must not keep any part of it. The reply may be a part of it. In return the next payload arrives in the same
// memory, so that large payloads (up to 256 KiB) cause no garbage collections. It panics like Handle.
func HandleLent(name string, h Handler) {
	if h == nil {
		panic("guest.HandleLent: a handler needs a function")
	}
	register("guest.HandleLent", name, handler{plain: h, lent: true})
}

// HandleContext registers a handler that takes a context. It panics like Handle.
func HandleContext(name string, h ContextHandler) {
	if h == nil {
		panic("guest.HandleContext: a handler needs a function")
	}
	watchCancels()
	register("guest.HandleContext", name, handler{withContext: h})
}

func register(who, name string, h handler) {
	if name == "" {
		panic(who + ": a handler needs a name")
	}
	handlers.Lock()
	defer handlers.Unlock()
	if _, taken := handlers.byName[name]; taken {
		panic(fmt.Sprintf("%s: %q is registered already", who, name))
	}
	handlers.byName[name] = h
}

// names returns the sorted names of the registered handlers.
func names() []string {
	handlers.RLock()
	defer handlers.RUnlock()
	list := make([]string, 0, len(handlers.byName))
	for name := range handlers.byName {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// A caller creates the context for one of its requests, and the function that ends it. It keeps what the reply of a
// typed function refers to until the host has copied that.
type caller interface {
	begin(request uint32) (context.Context, func())
	keep(parts [][]byte)
}

// answer runs the handler of that name for a request of c. lent reports that the payload's memory is free again.
func answer(name string, payload []byte, c caller, request uint32) (reply []byte, s status, lent bool) {
	handlers.RLock()
	h, found := handlers.byName[name]
	handlers.RUnlock()
	if !found {
		if f, found := typed(name); found {
			reply, s = call(f, payload, c, request)
			return reply, s, true
		}
		return []byte(strings.Join(names(), "\n")), statusUnknown, true
	}
	reply, err := h.run(payload, c, request)
	if err != nil {
		return []byte(err.Error()), statusError, h.lent
	}
	return reply, statusOK, h.lent
}

func (h handler) run(payload []byte, c caller, request uint32) ([]byte, error) {
	if h.plain != nil {
		return h.plain(payload)
	}
	ctx, end := c.begin(request)
	defer end()
	return h.withContext(ctx, payload)
}
