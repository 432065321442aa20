package main

import (
	"net"

	"gothreads/guest"
)

// listen takes the socket that the host has opened: gothreads run --listen.
func listen() (net.Listener, error) {
	return guest.Listener()
}
