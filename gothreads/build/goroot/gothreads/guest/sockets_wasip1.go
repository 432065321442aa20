package guest

import (
	"context"
	"io/fs"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// The host creates sockets (gothreads/wasi/sockets.py). Each has a number in WASI's descriptor table; from then on
// package net reads, writes and polls it like any of its own. Errors are WASI errno values.

//go:wasmimport gothreads sock_listen
func sock_listen(network, address string, fd *int32) int32

// sock_dial begins to connect to one of the addresses that the name resolves to: attempt is the address's index.
//
//go:wasmimport gothreads sock_dial
func sock_dial(network, address string, attempt int32, fd *int32) int32

//go:wasmimport gothreads sock_connected
func sock_connected(fd int32) int32

//go:wasmimport gothreads sock_address
func sock_address(fd, peer int32, buffer *byte, size int32, length *int32) int32

// hostSockets reports whether package net uses the host's sockets itself: in the threaded model. Stock Go's package net
// has a network of its own in memory, and other numbers for the families of addresses.
const hostSockets = syscall.AF_INET6 == 10

// firstListener is the number of the first socket that the host passes to the program, as with systemd.
const firstListener = 3

// notAllowed is the error for an address that no rule of the host allows.
type notAllowed struct{}

func (notAllowed) Error() string        { return "the host does not allow it (--allow-net)" }
func (notAllowed) Is(target error) bool { return target == fs.ErrPermission }

// Listeners returns the listening sockets that the host passed to the program (gothreads run --listen 127.0.0.1:8080),
// in the order in which they were named. Call it only once.
func Listeners() ([]net.Listener, error) {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	listeners := make([]net.Listener, n)
	for i := range listeners {
		if hostSockets {
			file := os.NewFile(uintptr(firstListener+i), "listener")
			l, err := net.FileListener(file)
			file.Close()
			if err != nil {
				return nil, err
			}
			listeners[i] = l
			continue
		}
		l, err := newListener(firstListener + int32(i))
		if err != nil {
			return nil, err
		}
		listeners[i] = l
	}
	return listeners, nil
}

// Listen listens on an address of the host, as net.Listen does, if the host allows it (--allow-net). The network is
// "tcp", "tcp4", "tcp6" or "unix".
func Listen(network, address string) (net.Listener, error) {
	if hostSockets {
		return net.Listen(network, address)
	}
	var fd int32
	if errno := sock_listen(network, address, &fd); errno != 0 {
		return nil, opError("listen", network, address, errno)
	}
	return newListener(fd)
}

// DialContext is like Dial, but ends when ctx does. It has the form that http.Transport's DialContext needs.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if hostSockets {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	var first error
	for attempt := int32(0); ; attempt++ {
		if err := ctx.Err(); err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: name{network, address}, Err: err}
		}
		fd, errno, err := begin(ctx, network, address, attempt)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: name{network, address}, Err: err}
		}
		if syscall.Errno(errno) == syscall.ERANGE && first != nil {
			return nil, first
		}
		var c net.Conn
		err = opError("dial", network, address, errno)
		if errno == 0 {
			c, err = connect(ctx, fd, network, address)
		}
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if errno != 0 && !retryable(syscall.Errno(errno)) {
			return nil, first
		}
	}
}

// begin calls sock_dial, but returns when ctx ends: resolving a name may take longer.
func begin(ctx context.Context, network, address string, attempt int32) (fd, errno int32, err error) {
	type begun struct{ fd, errno int32 }
	done := make(chan begun, 1)
	go func() {
		var b begun
		b.errno = sock_dial(network, address, attempt, &b.fd)
		done <- b
	}()
	select {
	case b := <-done:
		return b.fd, b.errno, nil
	case <-ctx.Done():
		go func() {
			if b := <-done; b.errno == 0 {
				syscall.Close(int(b.fd))
			}
		}()
		return 0, 0, ctx.Err()
	}
}

// retryable reports whether another of the name's addresses may work.
func retryable(errno syscall.Errno) bool {
	switch errno {
	case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.ENETDOWN, syscall.ETIMEDOUT:
		return true
	}
	return false
}

// connect waits until the socket is connected or the attempt has failed.
func connect(ctx context.Context, fd int32, network, address string) (net.Conn, error) {
	file := fileOf(fd)
	defer file.Close() // net.FileConn keeps the descriptor open
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: name{network, address}, Err: err}
	}
	errno := int32(0)
	err = raw.Write(func(fd uintptr) bool {
		errno = sock_connected(int32(fd))
		return syscall.Errno(errno) != syscall.EAGAIN
	})
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &net.OpError{Op: "dial", Net: network, Addr: name{network, address}, Err: err}
	}
	if errno != 0 {
		return nil, opError("dial", network, address, errno)
	}
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return withAddresses(c, fd), nil
}

func opError(op, network, address string, errno int32) error {
	var err error
	switch syscall.Errno(errno) {
	case 0:
		return nil
	case syscall.ENOTCAPABLE:
		err = notAllowed{}
	case syscall.ENOENT:
		if network != "unix" {
			host, _, _ := net.SplitHostPort(address)
			err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			break
		}
		fallthrough
	default:
		err = os.NewSyscallError(op, syscall.Errno(errno))
	}
	return &net.OpError{Op: op, Net: network, Addr: name{network, address}, Err: err}
}

// fileOf returns a file for net.FileConn and net.FileListener, which take over its state. That state must not mark it
// as a file: using a closed socket must report net.ErrClosed.
func fileOf(fd int32) *os.File {
	file := os.NewFile(uintptr(fd), "socket")
	if isFile := reflect.ValueOf(file.PollFD()).Elem().FieldByName("isFile"); isFile.IsValid() {
		*(*bool)(unsafe.Pointer(isFile.UnsafeAddr())) = false
	}
	return file
}

func newListener(fd int32) (net.Listener, error) {
	file := fileOf(fd)
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return &listener{l.(*net.TCPListener), addressOf(fd, 0)}, nil
}

// On WASI package net does not know a socket's addresses. The following types add them.

type listener struct {
	*net.TCPListener
	address net.Addr
}

func (l *listener) Addr() net.Addr { return l.address }

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	fd := int32(-1)
	if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
		raw.Control(func(n uintptr) { fd = int32(n) })
	}
	return withAddresses(c, fd), nil
}

type conn struct {
	*net.TCPConn
	local, remote net.Addr
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func withAddresses(c net.Conn, fd int32) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	return &conn{tcp, addressOf(fd, 0), addressOf(fd, 1)}
}

// name is an address as the program has given it.
type name struct{ network, address string }

func (n name) Network() string { return n.network }
func (n name) String() string  { return n.address }

func addressOf(fd, peer int32) net.Addr {
	var buffer [256]byte
	var length int32
	if sock_address(fd, peer, &buffer[0], int32(len(buffer)), &length) != 0 {
		return name{"tcp", "unknown"} // the socket was closed meanwhile
	}
	network, text, _ := strings.Cut(string(buffer[:length]), " ")
	if network == "unix" {
		return &net.UnixAddr{Name: text, Net: network}
	}
	host, port, _ := net.SplitHostPort(text)
	number, _ := strconv.Atoi(port)
	host, zone, _ := strings.Cut(host, "%")
	return &net.TCPAddr{IP: net.ParseIP(host), Port: number, Zone: zone}
}
