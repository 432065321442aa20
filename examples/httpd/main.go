// Httpd is an ordinary net/http server.
//
//	gothreads run --listen 127.0.0.1:8080 examples/httpd
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

var addr = flag.String("addr", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"), "address to listen on; the default is $ADDR's")

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	listener, err := listen()
	if err == nil {
		err = serve(ctx, stop, listener)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "httpd: %v\n", err)
		os.Exit(1)
	}
}

// listen opens a socket and prints its address, as the port may have been given as 0.
func listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", *addr)
	if err == nil {
		fmt.Fprintf(os.Stderr, "httpd: listening on %s\n", listener.Addr())
	}
	return listener, err
}
