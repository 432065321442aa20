// Package slot is the part of gothreads/guest that every module has: through it, the host calls handlers and typed
// functions, and looks at goroutines. It is small, and imports little, since all programs pay for it. Package guest is
// what programs use.
package slot

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// A Handler answers requests: one of the two functions does. Lent: the payload is valid only until the handler returns.
// Open: the handler streams; this opens a stream of its answer.
type Handler struct {
	Plain       func(payload []byte) ([]byte, error)
	WithContext func(ctx context.Context, payload []byte) ([]byte, error)
	Lent        bool
	Open        Typed
}

// Typed answers a request of gothreads' own: a call of a typed function, or what belongs to one. lent reports that the
// payload's memory is free again, though the reply may lie in it.
type Typed func(s *Slot, r Request, payload []byte) (reply []byte, status Status, lent bool)

// A Status tells the host what the reply is.
type Status uint32

const (
	OK      Status = iota // the reply is the handler's
	Error                 // the reply is the error's text
	Unknown               // no such handler; the reply lists the registered ones, one per line
	Refused               // an argument of a typed function is wrong (wire/call.go)
	Failed                // a typed function returned an error
	Parts                 // the reply of a typed function refers to more memory
)

// MostLent is the most memory, in bytes, that a slot keeps for the next payload although the collector runs.
const MostLent = 256<<10 + 256

// typedPrefix is what the name of a typed function has before it, in place of a handler's name; openPrefix, that of a
// handler that streams.
const (
	typedPrefix = "gothreads:"
	openPrefix  = "open "
)

// WatchCancels lets the host cancel requests from now on. Package guest sets it.
var WatchCancels func()

var handlers = struct {
	sync.RWMutex
	byName map[string]Handler
	typed  map[string]Typed
}{byName: map[string]Handler{}, typed: map[string]Typed{}}

// Register registers a handler. False: the name is taken.
func Register(name string, h Handler) bool {
	handlers.Lock()
	defer handlers.Unlock()
	if _, taken := handlers.byName[name]; taken {
		return false
	}
	handlers.byName[name] = h
	return true
}

// Export makes a typed function known.
func Export(name string, call Typed) {
	handlers.Lock()
	defer handlers.Unlock()
	handlers.typed[name] = call
}

// names returns the sorted names of the registered handlers that are wanted, one per line.
func names(wanted func(h Handler) bool) []byte {
	handlers.RLock()
	defer handlers.RUnlock()
	list := make([]string, 0, len(handlers.byName))
	for name, h := range handlers.byName {
		if wanted(h) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return []byte(strings.Join(list, "\n"))
}

// answer runs the handler of that name. lent reports that the payload's memory is free again. (name must not escape:
// then request makes it without memory of the heap.)
func (s *Slot) answer(name string, payload []byte, r Request) (reply []byte, status Status, lent bool) {
	h, typed, found := find(name)
	if typed != nil {
		return typed(s, r, payload)
	}
	if !found {
		return names(all), Unknown, true
	}
	reply, err := s.run(h, payload, r)
	if err != nil {
		return []byte(err.Error()), Error, h.Lent
	}
	return reply, OK, h.Lent
}

// find returns the handler of that name, or what else answers to it; nil and false: there is neither.
func find(name string) (h Handler, typed Typed, found bool) {
	handlers.RLock()
	defer handlers.RUnlock()
	if h, found = handlers.byName[name]; found {
		return h, nil, true
	}
	name, found = strings.CutPrefix(name, typedPrefix)
	if !found {
		return h, nil, false
	}
	if opened, found := strings.CutPrefix(name, openPrefix); found {
		return h, handlers.byName[opened].Open, false
	}
	if name == "streams" {
		return h, streams, false
	}
	return h, handlers.typed[name], false
}

// streams replies with the names of the handlers that stream, one per line.
func streams(*Slot, Request, []byte) ([]byte, Status, bool) {
	return names(func(h Handler) bool { return h.Open != nil }), OK, true
}

// all wants every handler.
func all(Handler) bool { return true }

func (s *Slot) run(h Handler, payload []byte, r Request) ([]byte, error) {
	if h.Plain != nil {
		return h.Plain(payload)
	}
	ctx, end := s.Begin(r)
	defer end()
	return h.WithContext(ctx, payload)
}
