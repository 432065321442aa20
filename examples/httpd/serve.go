package main

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	headerTimeout = 10 * time.Second // for a client to send its request's header
	grace         = 30 * time.Second // for requests in flight when the server shuts down
)

// serve answers requests until ctx ends or a request asks it to quit. Then it calls stop, which lets go of signals, and
// finishes the requests in flight.
func serve(ctx context.Context, stop func(), listener net.Listener) error {
	site := newSite()
	server := &http.Server{Handler: site, ReadHeaderTimeout: headerTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	case <-site.quitting:
	}
	stop() // from now on, a signal ends the program at once
	patience, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	return server.Shutdown(patience) // accepts no more connections, and answers the requests in flight
}
