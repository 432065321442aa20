package main

import (
	"cmp"
	"flag"
	"fmt"
	"net"
	"os"
)

var addr = flag.String("addr", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"), "address to listen on; the default is $ADDR's")

// listen opens a socket and prints its address, as the port may have been given as 0.
func listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", *addr)
	if err == nil {
		fmt.Fprintf(os.Stderr, "httpd: listening on %s\n", listener.Addr())
	}
	return listener, err
}
