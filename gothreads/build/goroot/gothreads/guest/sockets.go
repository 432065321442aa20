package guest

import (
	"context"
	"errors"
	"net"
)

// Listener returns the first of the Listeners.
func Listener() (net.Listener, error) {
	listeners, err := Listeners()
	if err != nil {
		return nil, err
	}
	if len(listeners) == 0 {
		return nil, errors.New("guest.Listener: no listening socket was handed over: gothreads run --listen 127.0.0.1:8080")
	}
	return listeners[0], nil
}

// Dial connects to an address, as net.Dial does, where the host allows it (--allow-net): network is "tcp", "tcp4",
// "tcp6" or "unix". Names are resolved by the host.
func Dial(network, address string) (net.Conn, error) {
	return DialContext(context.Background(), network, address)
}
