//go:build !wasip1

package guest

import (
	"context"
	"fmt"
)

// A program that is built natively has no host: nothing handles its calls, and nothing sends events.

// CallContext is like Call, but ends when ctx does. Built natively, the program has no host: it returns ErrNoHandler.
func CallContext(ctx context.Context, name string, payload []byte) ([]byte, error) {
	return nil, fmt.Errorf("handler %s: %w", name, ErrNoHandler)
}

// Notify calls a handler in the host without waiting. Built natively, the program has no host: it returns ErrNoHandler.
func Notify(name string, payload []byte) error {
	return fmt.Errorf("handler %s: %w", name, ErrNoHandler)
}

// Events returns the channel on which the host's events of that name arrive. Built natively, the program has no host:
// nothing arrives.
func Events(name string) <-chan []byte { return make(chan []byte) }

// watchCancels does nothing: no host sends cancellations.
func watchCancels() {}
