// Command sockets does with sockets what it is told, an operation a request, and says what came of it. With the argument "self" it
// tests itself on the addresses that follow; with "serve", it echoes on the listener that it was handed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gothreads/guest"
)

type args []any

func (a args) s(i int) string { return a[i].(string) }

func (a args) n(i int) int { return int(a[i].(float64)) }

func (a args) ms(i int) time.Duration { return time.Duration(a.n(i)) * time.Millisecond }

// conn and listener are what an earlier request has made.
func (a args) conn(i int) net.Conn {
	c, _ := made.Load(a.n(i))
	return c.(net.Conn)
}

func (a args) listener(i int) net.Listener {
	l, _ := made.Load(a.n(i))
	return l.(net.Listener)
}

type outcome struct {
	Value any
	Error string
	Is    []string
}

var (
	made  sync.Map // of net.Conn and net.Listener, by number
	last  atomic.Int64
	known = map[string]error{
		"EOF": io.EOF, "ErrClosed": net.ErrClosed, "ErrDeadlineExceeded": os.ErrDeadlineExceeded, "Canceled": context.Canceled,
		"DeadlineExceeded": context.DeadlineExceeded, "ECONNREFUSED": syscall.ECONNREFUSED, "ECONNRESET": syscall.ECONNRESET,
		"EPIPE": syscall.EPIPE, "EADDRINUSE": syscall.EADDRINUSE, "ENOENT": syscall.ENOENT, "EINVAL": syscall.EINVAL,
		"EAFNOSUPPORT": syscall.EAFNOSUPPORT, "EAGAIN": syscall.EAGAIN, "ENAMETOOLONG": syscall.ENAMETOOLONG,
	}
)

func numbered(what any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	number := int(last.Add(1))
	made.Store(number, what)
	return number, nil
}

var operations = map[string]func(a args) (any, error){
	"listen": func(a args) (any, error) { return numbered(guest.Listen(a.s(0), a.s(1))) },
	"fake network": func(a args) (any, error) { // package net's own, by a name: a listener, and what somebody who dials it reads
		l, err := net.Listen("tcp", a.s(0)+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Write([]byte("hello"))
				c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		c, err := net.Dial("tcp", net.JoinHostPort(a.s(0), port))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		said, err := io.ReadAll(c)
		return string(said), err
	},
	"look up": func(a args) (any, error) { return net.LookupHost(a.s(0)) },
	"listeners": func(a args) (any, error) {
		listeners, err := guest.Listeners()
		numbers := []any{}
		for _, l := range listeners {
			number, _ := numbered(l, nil)
			numbers = append(numbers, number)
		}
		return numbers, err
	},
	"first listener": func(a args) (any, error) { return numbered(guest.Listener()) },
	"accept":         func(a args) (any, error) { return numbered(a.listener(0).Accept()) },
	"dial":           func(a args) (any, error) { return numbered(guest.Dial(a.s(0), a.s(1))) },
	"dial within": func(a args) (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), a.ms(2))
		defer cancel()
		return numbered(guest.DialContext(ctx, a.s(0), a.s(1)))
	},
	"dial and cancel": func(a args) (any, error) { // after so many milliseconds
		ctx, cancel := context.WithCancel(context.Background())
		if a.n(2) == 0 {
			cancel()
		}
		defer time.AfterFunc(a.ms(2), cancel).Stop()
		return numbered(guest.DialContext(ctx, a.s(0), a.s(1)))
	},
	"addr": func(a args) (any, error) { return described(a.listener(0).Addr()), nil },
	"addrs": func(a args) (any, error) {
		return []string{described(a.conn(0).LocalAddr()), described(a.conn(0).RemoteAddr())}, nil
	},
	"read": func(a args) (any, error) {
		buffer := make([]byte, a.n(1))
		got, err := a.conn(0).Read(buffer)
		return string(buffer[:got]), err
	},
	"write": func(a args) (any, error) { return a.conn(0).Write([]byte(a.s(1))) },
	"fill":  func(a args) (any, error) { return a.conn(0).Write(make([]byte, a.n(1))) },
	"send": func(a args) (any, error) { // so many bytes, then the end
		sum, err := send(a.conn(0), a.n(1), 1)
		return sum, errors.Join(err, closeWrite(a.conn(0)))
	},
	"drain": func(a args) (any, error) {
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, a.conn(0))
		return []any{n, sum.Sum32()}, err
	},
	"close write": func(a args) (any, error) { return nil, closeWrite(a.conn(0)) },
	"close":       func(a args) (any, error) { return nil, a.conn(0).Close() },
	"stop":        func(a args) (any, error) { return nil, a.listener(0).Close() },
	"deadline":    func(a args) (any, error) { return nil, a.conn(0).SetDeadline(when(a, 1)) },
	"read deadline": func(a args) (any, error) {
		return nil, a.conn(0).SetReadDeadline(when(a, 1))
	},
	"write deadline": func(a args) (any, error) { return nil, a.conn(0).SetWriteDeadline(when(a, 1)) },
	"serve": func(a args) (any, error) {
		go serve(a.listener(0))
		return nil, nil
	},
	"transfer": func(a args) (any, error) { return nil, transfer(a.s(0), a.s(1), a.n(2), a.n(3)) },
	"self":     func(a args) (any, error) { return nil, self(a.s(0), a.s(1)) },
	"gc": func(a args) (any, error) {
		runtime.GC()
		return nil, nil
	},
	"goroutines": func(a args) (any, error) { return runtime.NumGoroutine(), nil },
	"tick": func(a args) (any, error) { // every so many ms, so often: how late the latest was, in ms
		worst, begin := time.Duration(0), time.Now()
		for i := range a.n(1) {
			time.Sleep(time.Until(begin.Add(time.Duration(i+1) * a.ms(0))))
			worst = max(worst, time.Since(begin)-time.Duration(i+1)*a.ms(0))
		}
		return worst.Seconds() * 1e3, nil
	},
	"read files": func(a args) (any, error) { // each in a goroutine of its own
		return nil, together(len(a), func(i int) error {
			text, err := os.ReadFile(a.s(i))
			if err == nil && string(text) != a.s(i) {
				err = fmt.Errorf("%q is in %s", text, a.s(i))
			}
			return err
		})
	},
	"exit": func(a args) (any, error) {
		os.Exit(a.n(0))
		return nil, nil
	},
}

func init() {
	guest.Handle("do", func(payload []byte) ([]byte, error) {
		var asked struct {
			Op   string
			Args args
		}
		if err := json.Unmarshal(payload, &asked); err != nil {
			return nil, err
		}
		do := operations[asked.Op]
		if do == nil {
			return nil, fmt.Errorf("there is no operation %q", asked.Op)
		}
		var said outcome
		value, err := do(asked.Args)
		said.Value = value
		if err != nil {
			said.Error = err.Error()
			for name, e := range known {
				if errors.Is(err, e) {
					said.Is = append(said.Is, name)
				}
			}
			var dns *net.DNSError
			if errors.As(err, &dns) && dns.IsNotFound {
				said.Is = append(said.Is, "IsNotFound "+dns.Name)
			}
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				said.Is = append(said.Is, "Timeout")
			}
		}
		return json.Marshal(said)
	})
}

func main() {
	if len(os.Args) > 1 {
		if err := command(os.Args[1], os.Args[2:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ok")
		return
	}
	select {}
}

func command(name string, addresses []string) error {
	if name == "self" {
		return self(addresses[0], addresses[1])
	}
	l, err := guest.Listener()
	if err == nil {
		serve(l)
	}
	return err
}

func described(a net.Addr) string { return fmt.Sprintf("%T %s %s", a, a.Network(), a) }

// when is so many milliseconds from now; 0: never.
func when(a args, i int) time.Time {
	if a.n(i) == 0 {
		return time.Time{}
	}
	return time.Now().Add(a.ms(i))
}

func closeWrite(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

// serve echoes, each connection up to its end.
func serve(l net.Listener) {
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

// send sends n bytes, which differ by seed, and returns their checksum.
func send(w io.Writer, n int, seed uint32) (uint32, error) {
	sum, block := crc32.NewIEEE(), make([]byte, 60_000)
	for n > 0 {
		for i := 0; i+4 <= len(block); i += 4 {
			seed = seed*1664525 + 1013904223
			block[i], block[i+1], block[i+2], block[i+3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
		}
		part := block[:min(n, len(block))]
		sum.Write(part)
		if _, err := w.Write(part); err != nil {
			return 0, err
		}
		n -= len(part)
	}
	return sum.Sum32(), nil
}

// together runs n goroutines, and returns their errors.
func together(n int, work func(i int) error) error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = work(i) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// transfer sends n bytes over each of some connections at once, and has them echoed.
func transfer(network, address string, connections, n int) error {
	return together(connections, func(i int) error {
		c, err := guest.Dial(network, address)
		if err != nil {
			return err
		}
		defer c.Close()
		var sent uint32
		got, back := crc32.NewIEEE(), int64(0)
		err = together(2, func(side int) (err error) {
			if side == 0 {
				sent, err = send(c, n, uint32(i))
				return errors.Join(err, closeWrite(c))
			}
			back, err = io.Copy(got, c)
			return err
		})
		if err == nil && (back != int64(n) || got.Sum32() != sent) {
			err = fmt.Errorf("connection %d: %d of %d bytes came back, with %x for %x", i, back, n, got.Sum32(), sent)
		}
		return err
	})
}

// self tests by itself what works in either model.
func self(tcp, unix string) error {
	for network, address := range map[string]string{"tcp": tcp, "unix": unix} {
		l, err := guest.Listen(network, address)
		if err != nil {
			return err
		}
		go serve(l)
		if err := transfer(network, l.Addr().String(), 4, 300_000); err != nil {
			return err
		}
		c, err := guest.Dial(network, l.Addr().String())
		if err != nil {
			return err
		}
		time.AfterFunc(20*time.Millisecond, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("a read that was interrupted: %w", err)
		}
		c.SetReadDeadline(time.Time{})
		buffer := make([]byte, 5)
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buffer); err != nil || !bytes.Equal(buffer, []byte("hello")) {
			return fmt.Errorf("%q came back: %w", buffer, err)
		}
		closed := make(chan error)
		time.AfterFunc(20*time.Millisecond, func() { closed <- errors.Join(c.Close(), l.Close()) })
		if _, err := c.Read(buffer); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("a read of what was closed: %w", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("an accept of what was closed: %w", err)
		}
		if err := <-closed; err != nil {
			return err
		}
		if _, err := guest.Dial(network, l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("a dial to what was closed: %w", err)
		}
	}
	return nil
}
