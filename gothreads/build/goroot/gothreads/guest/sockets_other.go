//go:build !wasip1

package guest

import (
	"context"
	"net"
	"os"
	"strconv"
)

// A program that is built natively listens and dials with package net.

// Listeners returns the listening sockets that the parent process passed to the program, as systemd does.
func Listeners() ([]net.Listener, error) {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	listeners := make([]net.Listener, n)
	for i := range listeners {
		file := os.NewFile(uintptr(3+i), "listener")
		l, err := net.FileListener(file)
		file.Close()
		if err != nil {
			return nil, err
		}
		listeners[i] = l
	}
	return listeners, nil
}

// Listen listens on an address, as net.Listen does. Built natively, it is net.Listen.
func Listen(network, address string) (net.Listener, error) { return net.Listen(network, address) }

// DialContext is like Dial, but ends when ctx does. It has the form that http.Transport's DialContext needs.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
