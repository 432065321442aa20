// Package guest is the Go side of gothreads: what a module may use to be called with bytes.
//
// A program registers handlers by name, usually in init or at the start of main:
//
//	guest.Handle("search", func(payload []byte) ([]byte, error) { … })
//
// and the host calls them: app.request("search", b"…") in Python, POST /api/request/search over HTTP. A request that
// comes early waits while main works, but not longer than some seconds: register handlers before anything that takes long.
// Handlers run at the same time as each other, as main and as exported functions: state they share needs
// locks, as in any Go program.
//
// Who owns the memory: the payload belongs to the handler, for good; nobody writes to it any more. What the
// handler returns belongs to the host until it has copied it; a handler that keeps it must not change it.
// (HandleLent is for handlers that need neither, and make no garbage.)
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

// A ContextHandler is a Handler that is told when nobody waits for its answer any more: the caller's time is over, or
// it has gone. Then ctx is cancelled, with ErrNobodyWaits as its cause; what the handler returns is thrown away.
type ContextHandler func(ctx context.Context, payload []byte) ([]byte, error)

// ErrNobodyWaits is the cause of a cancelled context of a ContextHandler's.
var ErrNobodyWaits = errors.New("nobody waits for the answer any more")

type status uint32

const (
	statusOK      status = iota // the reply is the handler's
	statusError                 // the reply is the error's text
	statusUnknown               // no such handler; the reply lists those there are, a line each
)

var handlers = struct {
	sync.RWMutex
	byName map[string]handler
}{byName: map[string]handler{}}

// handler is one of the two. lent: its payload is good until it returns.
type handler struct {
	plain       Handler
	withContext ContextHandler
	lent        bool
}

// Handle registers a handler. It panics when the name is empty, or taken, or h is nil.
func Handle(name string, h Handler) {
	if h == nil {
		panic("guest.Handle: a handler needs a function")
	}
	register("guest.Handle", name, handler{plain: h})
}

// HandleLent registers a handler to which the payload is only lent: it is good until the handler returns, which must
// not keep it, nor a part of it. The reply may lie in it. In turn the next payload comes in the same memory, so that
// large ones (up to 256 KiB) cost no garbage collections. It panics like Handle.
func HandleLent(name string, h Handler) {
	if h == nil {
		panic("guest.HandleLent: a handler needs a function")
	}
	register("guest.HandleLent", name, handler{plain: h, lent: true})
}

// HandleContext registers a handler that has a context. It panics like Handle.
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

// names lists the registered handlers in order.
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

// A caller makes the context of one of its requests, and what ends that.
type caller interface {
	begin(request uint32) (context.Context, func())
}

// answer runs the handler of that name, for a request of a caller's. lent: the payload is nobody's any more.
func answer(name string, payload []byte, c caller, request uint32) (reply []byte, s status, lent bool) {
	handlers.RLock()
	h, found := handlers.byName[name]
	handlers.RUnlock()
	if !found {
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
