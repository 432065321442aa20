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
type Handler struct {
	Plain       func(payload []byte) ([]byte, error)
	WithContext func(ctx context.Context, payload []byte) ([]byte, error)
	Lent        bool
}

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

// MostLent is the most memory, in bytes, that a slot keeps for the next payload.
const MostLent = 256<<10 + 256

// typedPrefix is what the name of a typed function has before it, in place of a handler's name.
const typedPrefix = "gothreads:"

// Typed has the typed functions by name. Package wire puts them there, in init functions, which have all run before the
// host calls anything.
var Typed = map[string]func(s *Slot, request uint32, payload []byte) ([]byte, Status){}

// WatchCancels lets the host cancel requests from now on. Package guest sets it.
var WatchCancels func()

var handlers = struct {
	sync.RWMutex
	byName map[string]Handler
}{byName: map[string]Handler{}}

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

// names returns the sorted names of the registered handlers, one per line.
func names() []byte {
	handlers.RLock()
	defer handlers.RUnlock()
	list := make([]string, 0, len(handlers.byName))
	for name := range handlers.byName {
		list = append(list, name)
	}
	slices.Sort(list)
	return []byte(strings.Join(list, "\n"))
}

// answer runs the handler of that name. lent reports that the payload's memory is free again. (name must not escape:
// then request makes it without memory of the heap.)
func (s *Slot) answer(name string, payload []byte, request uint32) (reply []byte, status Status, lent bool) {
	handlers.RLock()
	h, found := handlers.byName[name]
	handlers.RUnlock()
	if !found {
		if name, found := strings.CutPrefix(name, typedPrefix); found && Typed[name] != nil {
			reply, status = Typed[name](s, request, payload)
			return reply, status, true
		}
		return names(), Unknown, true
	}
	reply, err := s.run(h, payload, request)
	if err != nil {
		return []byte(err.Error()), Error, h.Lent
	}
	return reply, OK, h.Lent
}

func (s *Slot) run(h Handler, payload []byte, request uint32) ([]byte, error) {
	if h.Plain != nil {
		return h.Plain(payload)
	}
	ctx, end := s.Begin(request)
	defer end()
	return h.WithContext(ctx, payload)
}
