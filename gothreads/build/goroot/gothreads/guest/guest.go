// Package guest is the Go side of gothreads: what a module may use to be called with bytes.
//
// A program registers handlers by name, usually in init or at the start of main:
//
//	guest.Handle("search", func(payload []byte) ([]byte, error) { … })
//
// and the host calls them: app.request("search", b"…") in Python, POST /api/request/search over HTTP.
// Handlers run at the same time as each other, as main and as exported functions: state they share needs
// locks, as in any Go program.
//
// Who owns the memory: the payload belongs to the handler, for good; nobody writes to it any more. What the
// handler returns belongs to the host until it has copied it; a handler that keeps it must not change it.
package guest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Handler answers one request. An error reaches the caller as an exception with the error's text. A panic
// ends the whole module, as a panic in any goroutine does.
type Handler func(payload []byte) ([]byte, error)

type status uint32

const (
	statusOK      status = iota // the reply is the handler's
	statusError                 // the reply is the error's text
	statusUnknown               // no such handler; the reply lists those there are, a line each
)

var handlers = struct {
	sync.RWMutex
	byName map[string]Handler
}{byName: map[string]Handler{}}

// Handle registers a handler. It panics when the name is empty, or taken, or h is nil.
func Handle(name string, h Handler) {
	if name == "" || h == nil {
		panic("guest.Handle: a handler needs a name and a function")
	}
	handlers.Lock()
	defer handlers.Unlock()
	if _, taken := handlers.byName[name]; taken {
		panic(fmt.Sprintf("guest.Handle: %q is registered already", name))
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

// answer runs the handler of that name.
func answer(name string, payload []byte) ([]byte, status) {
	handlers.RLock()
	h := handlers.byName[name]
	handlers.RUnlock()
	if h == nil {
		return []byte(strings.Join(names(), "\n")), statusUnknown
	}
	reply, err := h(payload)
	if err != nil {
		return []byte(err.Error()), statusError
	}
	return reply, statusOK
}
