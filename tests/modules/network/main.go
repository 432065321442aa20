// Command network uses package net, and what is built on it, as ordinary programs do, and prints what came of it. Its
// output is the same natively (tests/wasi/test_network.py compares them). It imports nothing of gothreads.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/rpc"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

var port = regexp.MustCompile(`:\d{2,5}\b`)

// say prints a line, without the ports, which differ from run to run.
func say(what string, values ...any) {
	fmt.Println(what+":", port.ReplaceAllString(strings.TrimSuffix(fmt.Sprintln(values...), "\n"), ":PORT"))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// kind names what errors.Is finds.
func kind(err error) string {
	var names []string
	for name, target := range map[string]error{
		"EOF": io.EOF, "ErrClosed": net.ErrClosed, "ErrDeadlineExceeded": os.ErrDeadlineExceeded, "Canceled": context.Canceled,
		"ECONNREFUSED": syscall.ECONNREFUSED, "ECONNRESET": syscall.ECONNRESET, "EADDRINUSE": syscall.EADDRINUSE, "EPIPE": syscall.EPIPE,
	} {
		if errors.Is(err, target) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var timeout net.Error
	return fmt.Sprintf("%T %v timeout=%v", err, names, errors.As(err, &timeout) && timeout.Timeout())
}

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func streams(network, address string) {
	l := must(net.Listen(network, address))
	defer l.Close()
	go echo(l)
	say(network+" listener", l.Addr().Network(), l.Addr())
	var all sync.WaitGroup
	var lock sync.Mutex
	right := 0
	for i := range 50 {
		all.Go(func() {
			c := must(net.Dial(network, l.Addr().String()))
			defer c.Close()
			sent := bytes.Repeat([]byte{byte(i)}, 100_000)
			go func() {
				c.Write(sent)
				c.(interface{ CloseWrite() error }).CloseWrite()
			}()
			if got, err := io.ReadAll(c); err == nil && bytes.Equal(got, sent) {
				lock.Lock()
				right++
				lock.Unlock()
			}
		})
	}
	all.Wait()
	say(network+" echoes", right)

	c := must(net.Dial(network, l.Addr().String()))
	say(network+" addresses", c.LocalAddr().Network(), c.RemoteAddr())
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	say(network+" deadline", kind(err), err)
	c.SetReadDeadline(time.Time{})
	fmt.Fprint(c, "again")
	buffer := make([]byte, 5)
	io.ReadFull(c, buffer)
	say(network+" after the deadline", string(buffer))
	buffers := net.Buffers{[]byte("one "), []byte("two "), []byte("three")}
	n, err := buffers.WriteTo(c)
	got := make([]byte, n)
	io.ReadFull(c, got)
	say(network+" buffers", n, err, string(got))
	file := must(c.(interface{ File() (*os.File, error) }).File())
	again := must(net.FileConn(file))
	file.Close()
	c.Close()
	fmt.Fprint(again, "dup")
	io.ReadFull(again, got[:3])
	say(network+" file", string(got[:3]), again.RemoteAddr())
	again.Close()
	_, err = again.Read(got)
	say(network+" closed", kind(err), err)
	done := make(chan error)
	go func() {
		time.Sleep(10 * time.Millisecond)
		done <- l.Close()
	}()
	_, err = l.Accept()
	<-done
	say(network+" accept", kind(err), err)
	_, err = net.Dial(network, l.Addr().String())
	say(network+" refused", errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist))
}

// messages keep their bounds on Unix sockets of these two kinds.
func messages(folder string) {
	l := must(net.Listen("unixpacket", folder+"/p"))
	go echo(l)
	c := must(net.Dial("unixpacket", folder+"/p"))
	fmt.Fprint(c, "one")
	fmt.Fprint(c, "two")
	buffer := make([]byte, 100)
	for range 2 {
		n, err := c.Read(buffer)
		say("packet", string(buffer[:n]), err)
	}
	_, err := os.Lstat(folder + "/p")
	say("packets", c.RemoteAddr(), c.Close(), l.Close(), err)
	_, err = os.Lstat(folder + "/p")
	say("removed", errors.Is(err, os.ErrNotExist))

	a := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: folder + "/a", Net: "unixgram"}))
	b := must(net.ListenPacket("unixgram", folder+"/b")).(*net.UnixConn)
	n, err := a.WriteTo([]byte("datagram"), b.LocalAddr())
	say("unixgram sent", n, err)
	n, from, err := b.ReadFromUnix(buffer)
	say("unixgram got", string(buffer[:n]), from, err)
	n, err = b.WriteToUnix([]byte("back"), from)
	say("unixgram back", n, err)
	n, _, err = a.ReadFrom(buffer)
	say("unixgram got", string(buffer[:n]), err)
	d := must(net.Dial("unixgram", folder+"/b"))
	fmt.Fprint(d, "from nobody")
	n, from, err = b.ReadFromUnix(buffer[:4])
	say("unixgram cut", string(buffer[:n]), from == nil, d.RemoteAddr(), err)
	a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, _, err = a.ReadFrom(buffer)
	say("unixgram deadline", kind(err))
	say("unixgram closed", a.Close(), b.Close(), d.Close())
	_, err = net.Dial("unixgram", folder+"/missing")
	say("unixgram missing", errors.Is(err, os.ErrNotExist))
}

func tcp() {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	_, err := net.Listen("tcp", l.Addr().String())
	say("in use", kind(err), err)
	accepted := make(chan *net.TCPConn)
	go func() { accepted <- must(l.Accept()).(*net.TCPConn) }()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, Timeout: 5 * time.Second,
		Control: func(network, address string, c syscall.RawConn) error {
			say("control", network, address, c.Control(func(fd uintptr) {}))
			return nil
		}}
	c := must(dialer.Dial("tcp", l.Addr().String())).(*net.TCPConn)
	peer := <-accepted
	say("options", c.SetKeepAlive(true), c.SetKeepAlivePeriod(time.Minute), c.SetNoDelay(false), c.SetReadBuffer(8192), c.SetWriteBuffer(8192))
	say("keepalive", c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}))
	say("same addresses", c.LocalAddr().String() == peer.RemoteAddr().String(), c.RemoteAddr().String() == peer.LocalAddr().String())
	n, err := c.ReadFrom(strings.NewReader("from a reader"))
	got := make([]byte, n)
	io.ReadFull(peer, got)
	say("read from", n, err, string(got))
	say("linger", c.SetLinger(0), c.Close())
	_, err = peer.Read(got)
	say("reset", kind(err))
	peer.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	say("cancelled", kind(err))
	config := net.ListenConfig{KeepAlive: -1}
	m := must(config.Listen(context.Background(), "tcp4", ":0"))
	go echo(m)
	c2 := must(net.DialTimeout("tcp", fmt.Sprint("localhost:", m.Addr().(*net.TCPAddr).Port), 5*time.Second))
	fmt.Fprint(c2, "x")
	io.ReadFull(c2, got[:1])
	say("by name", string(got[:1]))
	c2.Close()
	m.Close()
}

func udp() {
	a := must(net.ListenPacket("udp", "127.0.0.1:0"))
	b := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	buffer := make([]byte, 100)
	n, err := a.WriteTo([]byte("hello"), b.LocalAddr())
	say("udp sent", n, err)
	n, from, err := b.ReadFromUDP(buffer)
	say("udp got", string(buffer[:n]), from.String() == a.LocalAddr().String(), err)
	n, err = b.WriteToUDPAddrPort([]byte("back"), netip.MustParseAddrPort(a.LocalAddr().String()))
	say("udp back", n, err)
	n, _, err = a.ReadFrom(buffer)
	say("udp got", string(buffer[:n]), err)
	c := must(net.Dial("udp", a.LocalAddr().String())).(*net.UDPConn)
	fmt.Fprint(c, "connected")
	n, to, err := a.ReadFrom(buffer[:4])
	say("udp cut", string(buffer[:n]), to.String() == c.LocalAddr().String(), err)
	a.WriteTo([]byte(""), to)
	n, err = c.Read(buffer)
	say("udp empty", n, err)
	n, oobn, flags, _, err := must2(a, c, buffer)
	say("udp message", n, oobn, flags, err)
	b.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, _, err = b.ReadFrom(buffer)
	say("udp deadline", kind(err))
	_, err = c.WriteTo([]byte("x"), b.LocalAddr())
	say("udp connected", err)
	say("udp closed", a.Close(), b.Close(), c.Close())
}

func must2(a net.PacketConn, c *net.UDPConn, buffer []byte) (int, int, int, *net.UDPAddr, error) {
	c.Write([]byte("message"))
	return a.(*net.UDPConn).ReadMsgUDP(buffer, nil)
}

type Arithmetic struct{}

func (Arithmetic) Add(pair [2]int, sum *int) error { *sum = pair[0] + pair[1]; return nil }

func protocols() {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Method, " ", r.URL.Path, " ", r.Proto, " ", len(body))
	})
	for _, secure := range []bool{false, true} {
		s := httptest.NewUnstartedServer(hello)
		s.EnableHTTP2 = secure
		if secure {
			s.StartTLS()
		} else {
			s.Start()
		}
		var all sync.WaitGroup
		var lock sync.Mutex
		answers := map[string]int{}
		for i := range 20 {
			all.Go(func() {
				r, err := s.Client().Post(s.URL+"/path", "text/plain", bytes.NewReader(make([]byte, 10_000*i)))
				answer := ""
				if err == nil {
					b, _ := io.ReadAll(r.Body)
					r.Body.Close()
					answer = strings.Join(strings.Fields(string(b))[:3], " ")
				} else {
					answer = err.Error()
				}
				lock.Lock()
				answers[answer]++
				lock.Unlock()
			})
		}
		all.Wait()
		say("http", answers)
		s.Close()
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	server := rpc.NewServer()
	server.Register(Arithmetic{})
	go server.Accept(l)
	client := must(rpc.Dial("tcp", l.Addr().String()))
	var sum int
	say("rpc", client.Call("Arithmetic.Add", [2]int{2, 3}, &sum), sum)
	client.Close()
	l.Close()
	if c, err := tls.Dial("tcp", l.Addr().String(), nil); err == nil {
		c.Close()
	} else {
		say("tls", kind(err))
	}
	web := &http.Server{Handler: hello}
	m := must(net.Listen("tcp", "127.0.0.1:0"))
	ended := make(chan error)
	go func() { ended <- web.Serve(m) }()
	r := must(http.Get("http://" + m.Addr().String() + "/x"))
	r.Body.Close()
	say("shutdown", r.StatusCode, web.Shutdown(context.Background()), <-ended)
}

func names() {
	addresses := must(net.LookupHost("localhost"))
	say("localhost", addresses[0])
	_, err := net.LookupHost("nowhere.invalid")
	var dns *net.DNSError
	say("no such name", errors.As(err, &dns) && dns.IsNotFound)
	say("port", must(net.LookupPort("tcp", "https")))
	say("ip", must(net.LookupIP("192.0.2.7")))
	say("resolve", must(net.ResolveTCPAddr("tcp", "127.0.0.1:http")), must(net.ResolveUDPAddr("udp4", "127.0.0.1:53")))
	_, err = net.Dial("tcp", "127.0.0.1:99999")
	say("bad port", err)
	_, err = net.Listen("tcp", "nonsense")
	say("bad address", err)
	_, err = net.Dial("nonsense", "127.0.0.1:1")
	say("bad network", err)
}

func main() {
	streams("tcp", "127.0.0.1:0")
	if len(os.Args) > 1 {
		path := filepath.Join(os.Args[1], "socket")
		streams("unix", path)
		_, err := os.Lstat(path)
		say("unix removed", errors.Is(err, os.ErrNotExist))
		messages(os.Args[1])
	}
	tcp()
	udp()
	protocols()
	names()
}
