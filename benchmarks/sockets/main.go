// Command sockets answers datagrams ("answer ADDRESS"), or dials ("dial ADDRESS N"): N connections, one after the other,
// each with one exchange. It prints "ready" before, and "done" after N. "ask ADDRESS N" and "accept ADDRESS" are the
// other sides of these.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	message = "a question of some forty bytes, as DNS has"
	askers  = 16
	// What is lost is asked again.
	patience = time.Second
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	address, count := os.Args[2], 0
	if len(os.Args) > 3 {
		count = must(strconv.Atoi(os.Args[3]))
	}
	switch os.Args[1] {
	case "answer":
		answer(address)
	case "ask":
		ask(address, count)
	case "accept":
		accept(address)
	case "dial":
		fmt.Println("ready")
		dial(address, count)
		fmt.Println("done")
		io.Copy(io.Discard, os.Stdin)
	}
}

func answer(address string) {
	c := must(net.ListenPacket("udp", address))
	fmt.Println("ready")
	buffer := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			panic(err)
		}
		if _, err := c.WriteTo(buffer[:n], from); err != nil {
			panic(err)
		}
	}
}

func ask(address string, count int) {
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			c := must(net.Dial("udp", address))
			defer c.Close()
			buffer := make([]byte, 512)
			for done := 0; done < count/askers; {
				fmt.Fprint(c, message)
				c.SetReadDeadline(time.Now().Add(patience))
				if n, err := c.Read(buffer); err == nil && string(buffer[:n]) == message {
					done++
				}
			}
		})
	}
	all.Wait()
}

func accept(address string) {
	l := must(net.Listen("tcp", address))
	fmt.Println("ready")
	for {
		c := must(l.Accept())
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func dial(address string, count int) {
	buffer := make([]byte, len(message))
	for range count {
		c := must(net.Dial("tcp", address))
		fmt.Fprint(c, message)
		must(io.ReadFull(c, buffer))
		c.Close()
	}
}
