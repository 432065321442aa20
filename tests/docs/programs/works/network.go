package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"gothreads/guest"
)

// greeting reads what a peer writes at once.
func greeting(connection net.Conn, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	text, err := io.ReadAll(connection)
	return string(text), err
}

// reached tells whether another process could connect: the host dials where the listener says it is.
func reached(listener net.Listener, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	go func() {
		if connection, err := listener.Accept(); err == nil {
			io.WriteString(connection, "hello")
			connection.Close()
		}
	}()
	found, err := greeting(guest.Dial("tcp", listener.Addr().String()))
	if err != nil {
		return nil, errors.New("another process cannot connect")
	}
	return found, nil
}

func page(transport *http.Transport) (any, error) {
	client := &http.Client{Transport: transport}
	response, err := client.Get("http://" + os.Getenv("WEB") + "/")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func init() {
	add(map[string]program{
		"net-dial":   func(string) (any, error) { return greeting(net.Dial("tcp", os.Getenv("PEER"))) },
		"guest-dial": func(string) (any, error) { return greeting(guest.Dial("tcp", os.Getenv("PEER"))) },
		"guest-dial-timeout": func(string) (any, error) {
			connection, err := guest.Dial("tcp", os.Getenv("SILENT"))
			if err != nil {
				return nil, err
			}
			connection.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err = connection.Read(make([]byte, 1))
			return errors.Is(err, os.ErrDeadlineExceeded), nil
		},
		"net-listen":   func(string) (any, error) { return reached(net.Listen("tcp", "127.0.0.1:0")) },
		"guest-listen": func(string) (any, error) { return reached(guest.Listen("tcp", "127.0.0.1:0")) },
		"net-itself": func(string) (any, error) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			go func() {
				if connection, err := listener.Accept(); err == nil {
					io.WriteString(connection, "hello")
					connection.Close()
				}
			}()
			return greeting(net.Dial("tcp", listener.Addr().String()))
		},
		"net-pipe": func(string) (any, error) {
			a, b := net.Pipe()
			go func() { io.WriteString(b, "hello"); b.Close() }()
			return greeting(a, nil)
		},
		"udp": func(string) (any, error) {
			connection, err := guest.Dial("udp", os.Getenv("PEER"))
			if err == nil {
				connection.Close()
			}
			return "", err
		},
		"localhost": func(string) (any, error) {
			_, err := net.LookupHost("localhost")
			return "", err
		},
		"lookup": func(string) (any, error) {
			_, err := net.DefaultResolver.LookupIPAddr(context.Background(), os.Getenv("NAME"))
			return "", err
		},
		"interfaces": func(string) (any, error) {
			found, err := net.Interfaces()
			return len(found) > 0, err
		},
		"http-get": func(string) (any, error) { return page(&http.Transport{}) },
		"http-get-guest": func(string) (any, error) {
			return page(&http.Transport{DialContext: guest.DialContext})
		},
	})
}
