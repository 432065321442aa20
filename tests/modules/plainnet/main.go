// Command plainnet uses package net as its arguments say, and imports nothing of gothreads: "itself" talks to itself over
// TCP and UDP, "serve ADDRESS" echoes, "again ADDRESS" does so after it has closed a listener there, "handed" does so on
// sockets that systemd has opened, "answer ADDRESS" answers datagrams, "once NETWORK ADDRESS" answers one client and fails, "unixgram OWN OTHER" sends a datagram, and
// "try" does what further arguments say, three each: what to do, the network, the address. "options" sets some of a
// connection to itself. "pauses" has a hundred goroutines that wait, and prints how often the world was stopped for
// anything but the collector from its first second to its fourth. "turns" prints the least number of reads of one
// goroutine, which always finds data, that come between the arrival of data for another goroutine and its read.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func must2[T, U any](one T, other U, err error) (T, U) { return must(one, err), other }

func main() {
	switch os.Args[1] {
	case "itself":
		itself()
	case "serve":
		serve(must(net.Listen("tcp", os.Args[2])))
	case "handed": // as github.com/coreos/go-systemd/activation finds them
		if os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
			panic("the sockets are not for this process")
		}
		names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
		for i := range must(strconv.Atoi(os.Getenv("LISTEN_FDS"))) {
			file := os.NewFile(uintptr(3+i), names[i])
			l := must(net.FileListener(file))
			file.Close()
			fmt.Println(names[i])
			go serve(l)
		}
		select {}
	case "again":
		must(net.Listen("tcp", os.Args[2])).Close()
		_, err := net.Dial("tcp", os.Args[2])
		fmt.Println(errors.Is(err, syscall.ECONNREFUSED))
		serve(must(net.Listen("tcp", os.Args[2])))
	case "once":
		must(net.Listen(os.Args[2], os.Args[3])).Close()
		c := must(must(net.Listen(os.Args[2], os.Args[3])).Accept())
		fmt.Fprint(c, "served")
		c.Close()
		os.Exit(3)
	case "pauses":
		for range 100 {
			go func() { select {} }()
		}
		time.Sleep(time.Second)
		before := pauses()
		time.Sleep(3 * time.Second)
		fmt.Println(pauses() - before)
	case "turns":
		turns()
	case "answer":
		answer(must(net.ListenPacket("udp", os.Args[2])))
	case "options":
		options()
	case "unixgram":
		unixgram(os.Args[2], os.Args[3])
	case "try":
		for args := os.Args[2:]; len(args) >= 3; args = args[3:] {
			err := try(args[0], args[1], args[2])
			fmt.Println(errors.Is(err, fs.ErrPermission), err)
		}
	}
}

func pauses() (count uint64) {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(sample)
	for _, n := range sample[0].Value.Float64Histogram().Counts {
		count += n
	}
	return count
}

func turns() {
	runtime.GOMAXPROCS(1)
	least := turn()
	for range 8 { // in some, a thread without a P takes the event, and is not scheduled by the system for a while
		least = min(least, turn())
	}
	fmt.Println(least)
}

func turn() int32 {
	busy, busyWriter := must2(os.Pipe()) // what is written to a pipe is there at once; to a connection, a little later
	other, otherWriter := must2(os.Pipe())
	const all, before = 50_000, 1_000
	must(busyWriter.Write(make([]byte, all)))
	var reads atomic.Int32
	at, one := make(chan int32, 1), make([]byte, 1)
	go func() {
		must(other.Read(make([]byte, 1)))
		at <- reads.Load()
	}()
	for reads.Load() < all {
		must(busy.Read(one))
		if reads.Add(1) == before {
			must(otherWriter.Write(one))
		}
	}
	return <-at - before
}

func serve(l net.Listener) {
	fmt.Println("listening", l.Addr())
	for {
		c := must(l.Accept())
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

// answer tells each sender its address, and what came of sending a datagram to the address that it names.
func answer(c net.PacketConn) {
	fmt.Println("receiving", c.LocalAddr())
	buffer := make([]byte, 100)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			panic(err)
		}
		_, err = c.WriteTo([]byte("x"), must(net.ResolveUDPAddr("udp", string(buffer[:n]))))
		must(c.WriteTo(fmt.Append(nil, from, " ", err), from))
	}
}

// options prints what comes of setting options, and what they are then.
func options() {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	for _, on := range []syscall.Conn{must(net.Dial("tcp", l.Addr().String())).(*net.TCPConn), l.(*net.TCPListener)} {
		if c, ok := on.(*net.TCPConn); ok {
			fmt.Println(c.SetNoDelay(false), c.SetKeepAlive(true), c.SetLinger(0), c.SetWriteBuffer(16384))
		}
		must(on.SyscallConn()).Control(func(fd uintptr) {
			fmt.Println(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, 7), syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, 999, 1))
			for _, option := range [][2]int{{syscall.IPPROTO_TCP, syscall.TCP_NODELAY}, {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE},
				{syscall.SOL_SOCKET, syscall.SO_SNDBUF}, {syscall.IPPROTO_IP, syscall.IP_TTL}} {
				fmt.Print(must(syscall.GetsockoptInt(int(fd), option[0], option[1])), " ")
			}
			fmt.Println()
		})
	}
}

// unixgram prints what the other socket answers.
func unixgram(own, other string) {
	c := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}))
	defer c.Close()
	must(c.WriteTo([]byte("hello"), &net.UnixAddr{Name: other, Net: "unixgram"}))
	buffer := make([]byte, 100)
	n, from, err := c.ReadFrom(buffer)
	fmt.Println(string(buffer[:n]), from, err)
}

// itself ends up serving at an address of its own.
func itself() {
	datagrams := must(net.ListenPacket("udp", "127.0.0.1:0"))
	sender := must(net.Dial("udp", datagrams.LocalAddr().String()))
	must(sender.Write([]byte("datagram")))
	buffer := make([]byte, 100)
	n, from, err := datagrams.ReadFrom(buffer)
	fmt.Println("got", string(buffer[:n]), from.String() == sender.LocalAddr().String(), err)
	fmt.Println("receiving", datagrams.LocalAddr())

	l := must(net.Listen("tcp", "127.0.0.1:0"))
	go func() {
		c := must(net.Dial("tcp", l.Addr().String()))
		must(c.Write([]byte("bytes")))
		n := must(io.ReadFull(c, buffer[:5]))
		fmt.Println("echoed", string(buffer[:n]), c.RemoteAddr().String() == l.Addr().String(), c.Close())
	}()
	serve(l)
}

func try(what, network, address string) error {
	var closer io.Closer
	var err error
	switch what {
	case "dial":
		closer, err = net.Dial(network, address)
	case "listen":
		closer, err = net.Listen(network, address)
	case "packets":
		closer, err = net.ListenPacket(network, address)
	case "send":
		packets := must(net.ListenPacket("udp", "127.0.0.1:0"))
		defer packets.Close()
		_, err = packets.WriteTo([]byte("x"), must(net.ResolveUDPAddr(network, address)))
	case "multicast":
		closer, err = net.ListenMulticastUDP(network, nil, must(net.ResolveUDPAddr(network, address)))
	case "interfaces":
		one := must(net.Interfaces())[0]
		addresses := must(one.Addrs())
		err = fmt.Errorf("%s: %v %v", one.Name, addresses[0], addresses[1])
	case "lookup":
		_, err = net.LookupHost(address)
	}
	if err == nil && closer != nil {
		closer.Close()
	}
	return err
}
