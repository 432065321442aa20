package guest

import (
	"context"
	"errors"
	"net"
)

// Listener returns the first of Listeners, and an error if there is none.
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

// Dial connects to an address, as net.Dial does, if the host allows it (--allow-net). The network is "tcp", "tcp4",
// "tcp6" or "unix". The host resolves names. On threads and natively it is net.Dial; in stock Go on WebAssembly,
// net.Dial reaches only the program itself.
func Dial(network, address string) (net.Conn, error) {
	return DialContext(context.Background(), network, address)
}
