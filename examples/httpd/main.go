// Httpd is an ordinary net/http server.
//
//	gothreads run --listen 127.0.0.1:8080 examples/httpd
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	headerTimeout = 10 * time.Second // for a client to send its request's header
	grace         = 30 * time.Second // for requests in flight when the server quits
)

func main() {
	flag.Parse()
	listener, err := listen()
	if err == nil {
		err = serve(listener)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "httpd: %v\n", err)
		os.Exit(1)
	}
}

// serve answers requests until it is asked to quit, and then finishes those in flight.
func serve(listener net.Listener) error {
	site := newSite()
	server := &http.Server{Handler: site, ReadHeaderTimeout: headerTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-site.quitting:
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		return server.Shutdown(ctx)
	}
}
