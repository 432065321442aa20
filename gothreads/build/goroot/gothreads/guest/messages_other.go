//go:build !wasip1

package guest

import (
	"context"
	"fmt"
)

// Where a program is built for the machine itself, there is no host: nobody handles calls, and nobody sends events.

// CallContext returns ErrNoHandler.
func CallContext(ctx context.Context, name string, payload []byte) ([]byte, error) {
	return nil, fmt.Errorf("handler %s: %w", name, ErrNoHandler)
}

// Notify returns ErrNoHandler.
func Notify(name string, payload []byte) error {
	return fmt.Errorf("handler %s: %w", name, ErrNoHandler)
}

// Events returns a channel on which nothing comes.
func Events(name string) <-chan []byte { return make(chan []byte) }

// watchCancels has nobody to listen to.
func watchCancels() {}
