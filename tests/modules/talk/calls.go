package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

// kind says in a word how a call ended.
func kind(err error) string {
	var host *guest.HostError
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, guest.ErrNoHandler):
		return "no handler: " + err.Error()
	case errors.Is(err, guest.ErrBusy):
		return "busy: " + err.Error()
	case errors.Is(err, context.Canceled):
		return "cancelled: " + err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "too late"
	case errors.As(err, &host):
		return "raised: " + host.Handler + ": " + host.Text
	}
	return "other: " + err.Error()
}

// A call is one that a goroutine of its own makes, so that it can be cancelled.
type call struct {
	cancel context.CancelFunc
	done   chan string
}

var begun sync.Map // id -> *call

// calls registers what calls the host in ways that take more than one step.
func calls() {
	// "ID NAME PAYLOAD": a call that goes on when this has returned.
	guest.Handle("begin", func(p []byte) ([]byte, error) {
		words := strings.SplitN(string(p), " ", 3)
		ctx, cancel := context.WithCancel(context.Background())
		c := &call{cancel, make(chan string, 1)}
		begun.Store(words[0], c)
		go func() {
			reply, err := guest.CallContext(ctx, words[1], []byte(words[2]))
			c.done <- kind(err) + " " + string(reply)
		}()
		return nil, nil
	})
	guest.Handle("cancel", func(p []byte) ([]byte, error) {
		c, _ := begun.Load(string(p))
		c.(*call).cancel()
		return nil, nil
	})
	guest.Handle("await", func(p []byte) ([]byte, error) {
		c, _ := begun.LoadAndDelete(string(p))
		return []byte(<-c.(*call).done), nil
	})
	// "N NAME": so many calls, each of which is cancelled about when its reply comes.
	guest.Handle("race", func(p []byte) ([]byte, error) {
		first, name, _ := bytes.Cut(p, []byte(" "))
		n, _ := strconv.Atoi(string(first))
		var all sync.WaitGroup
		var replied, cancelled, wrong atomic.Int64
		for range 16 {
			all.Go(func() {
				for i := range n / 16 {
					ctx, cancel := context.WithCancel(context.Background())
					stop := time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
					reply, err := guest.CallContext(ctx, string(name), strconv.AppendInt(nil, int64(i), 10))
					switch {
					case err == nil && string(reply) == strconv.Itoa(i):
						replied.Add(1)
					case errors.Is(err, context.Canceled) && len(reply) == 0:
						cancelled.Add(1)
					default:
						wrong.Add(1)
					}
					stop.Stop()
					cancel()
				}
			})
		}
		all.Wait()
		return fmt.Append(nil, replied.Load(), " ", cancelled.Load(), " ", wrong.Load()), nil
	})
	// "N NAME": so many calls at a time, of which each gets its own payload back; how many did.
	guest.Handle("echoes", func(p []byte) ([]byte, error) {
		first, name, _ := bytes.Cut(p, []byte(" "))
		n, _ := strconv.Atoi(string(first))
		var all sync.WaitGroup
		var right atomic.Int64
		for i := range n {
			all.Go(func() {
				payload := strconv.AppendInt(nil, int64(i), 10)
				if reply, err := guest.Call(string(name), payload); err == nil && bytes.Equal(reply, payload) {
					right.Add(1)
				}
			})
		}
		all.Wait()
		return fmt.Append(nil, right.Load()), nil
	})
	// "NAME SIZE": a payload of so many bytes, and the host's reply: their checksums.
	guest.Handle("sized", func(p []byte) ([]byte, error) {
		name, last, _ := bytes.Cut(p, []byte(" "))
		size, _ := strconv.Atoi(string(last))
		payload := bytes.Repeat([]byte("0123456789\x00\xff abc"), size/15+1)[:size]
		reply, err := guest.Call(string(name), payload)
		return fmt.Append(nil, crc32.ChecksumIEEE(payload), " ", crc32.ChecksumIEEE(reply), " ", len(reply), " ", err), nil
	})
	// "NAME": hands on the events of that name to the host's handler got; returns when its handler meet does.
	guest.Handle("forward", func(p []byte) ([]byte, error) {
		go func() {
			for e := range guest.Events(string(p)) {
				guest.Notify("got", e)
			}
		}()
		return guest.Call("meet", nil)
	})
	// "MS NAME": notifies the host after so many milliseconds.
	guest.Handle("after", func(p []byte) ([]byte, error) {
		first, name, _ := strings.Cut(string(p), " ")
		ms, _ := strconv.Atoi(first)
		time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { guest.Notify(name, []byte("after "+first)) })
		return nil, nil
	})
	// "N NAME": so many calls, one after the other, when this has returned.
	guest.Handle("chain", func(p []byte) ([]byte, error) {
		first, name, _ := strings.Cut(string(p), " ")
		n, _ := strconv.Atoi(first)
		go func() {
			for i := range n {
				guest.Call(name, strconv.AppendInt(nil, int64(i), 10))
			}
			guest.Notify(name, []byte("done"))
		}()
		return nil, nil
	})
	// "ADDRESS": dials it, and sends back what comes, when this has returned. Without an address, so it does for all who dial.
	guest.Handle("echo", func(p []byte) ([]byte, error) {
		if len(p) > 0 {
			c, err := guest.Dial("tcp", string(p))
			if err == nil {
				go io.Copy(c, c)
			}
			return nil, err
		}
		l, err := guest.Listener()
		if err != nil {
			return nil, err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(c, c)
			}
		}()
		return nil, nil
	})
}
