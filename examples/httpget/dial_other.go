//go:build !wasip1

package main

import "net"

var dial = new(net.Dialer).DialContext
