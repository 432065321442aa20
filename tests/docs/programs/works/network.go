package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// greet says hello to the first client.
func greet(listener net.Listener) {
	if connection, err := listener.Accept(); err == nil {
		io.WriteString(connection, "hello")
		connection.Close()
	}
}

// reached returns what another process reads from the listener.
func reached(listener net.Listener, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	go greet(listener)
	caller, err := net.Dial("tcp", os.Getenv("CALLER"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(caller, listener.Addr())
	return greeting(caller, nil)
}

func page() (any, error) {
	response, err := http.Get("http://" + os.Getenv("WEB") + "/")
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
		"net-timeout": func(string) (any, error) {
			connection, err := net.Dial("tcp", os.Getenv("SILENT"))
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
			go greet(listener)
			return greeting(net.Dial("tcp", listener.Addr().String()))
		},
		"net-pipe": func(string) (any, error) {
			a, b := net.Pipe()
			go func() { io.WriteString(b, "hello"); b.Close() }()
			return greeting(a, nil)
		},
		"udp": func(string) (any, error) {
			receiver, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer receiver.Close()
			sender, err := net.Dial("udp", receiver.LocalAddr().String())
			if err != nil {
				return nil, err
			}
			io.WriteString(sender, "hello")
			buffer := make([]byte, 100)
			n, _, err := receiver.ReadFrom(buffer)
			return string(buffer[:n]), err
		},
		"unix": func(string) (any, error) {
			listener, err := net.Listen("unix", os.Getenv("SOCKET"))
			if err != nil {
				return nil, err
			}
			go greet(listener)
			return greeting(net.Dial("unix", os.Getenv("SOCKET")))
		},
		"https": func(string) (any, error) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, r.Proto)
			}))
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			response, err := server.Client().Get(server.URL)
			if err != nil {
				return nil, err
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			return string(text), err
		},
		"options": func(string) (any, error) {
			connection, err := net.Dial("tcp", os.Getenv("PEER"))
			if err != nil {
				return nil, err
			}
			defer connection.Close()
			tcp := connection.(*net.TCPConn)
			file, err := tcp.File()
			if err == nil {
				file.Close()
			}
			return connection.RemoteAddr().String() == os.Getenv("PEER"), errors.Join(err, tcp.SetNoDelay(false),
				tcp.SetKeepAlivePeriod(time.Minute), tcp.SetLinger(0), tcp.CloseWrite())
		},
		"localhost": func(string) (any, error) {
			_, err := net.LookupHost("localhost")
			return "", err
		},
		"interfaces": func(string) (any, error) {
			found, err := net.Interfaces()
			return len(found) > 0, err
		},
		"http-get": func(string) (any, error) { return page() },
	})
}
