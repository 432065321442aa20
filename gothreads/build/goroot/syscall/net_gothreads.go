//go:build wasip1

package syscall

import (
	"structs"
	"unsafe"
)

// Sockets as system calls of the host (gothreads/wasi/network.py), in place of net_wasip1.go and net_fake.go. With
// these, packages net and internal/poll use their code for Unix. Constants have Linux's values.

const (
	AF_UNSPEC = 0
	AF_UNIX   = 1
	AF_INET   = 2
	AF_INET6  = 10

	SOCK_STREAM    = 1
	SOCK_DGRAM     = 2
	SOCK_RAW       = 3
	SOCK_SEQPACKET = 5

	IPPROTO_IP   = 0
	IPPROTO_IPV4 = 4
	IPPROTO_TCP  = 6
	IPPROTO_UDP  = 17
	IPPROTO_IPV6 = 41

	SOL_SOCKET   = 1
	SO_REUSEADDR = 2
	SO_TYPE      = 3
	SO_ERROR     = 4
	SO_BROADCAST = 6
	SO_SNDBUF    = 7
	SO_RCVBUF    = 8
	SO_KEEPALIVE = 9
	SO_LINGER    = 13
	SO_REUSEPORT = 15

	TCP_NODELAY   = 1
	TCP_KEEPIDLE  = 4
	TCP_KEEPINTVL = 5
	TCP_KEEPCNT   = 6

	IP_TOS             = 1
	IP_TTL             = 2
	IP_MULTICAST_IF    = 32
	IP_MULTICAST_TTL   = 33
	IP_MULTICAST_LOOP  = 34
	IP_ADD_MEMBERSHIP  = 35
	IP_DROP_MEMBERSHIP = 36

	IPV6_UNICAST_HOPS   = 16
	IPV6_MULTICAST_IF   = 17
	IPV6_MULTICAST_HOPS = 18
	IPV6_MULTICAST_LOOP = 19
	IPV6_JOIN_GROUP     = 20
	IPV6_LEAVE_GROUP    = 21
	IPV6_V6ONLY         = 26

	MSG_OOB       = 1
	MSG_PEEK      = 2
	MSG_DONTROUTE = 4
	MSG_TRUNC     = 32

	SHUT_RD   = 0
	SHUT_WR   = 1
	SHUT_RDWR = 2

	SOMAXCONN = 4096

	F_DUPFD_CLOEXEC = 0 // duplicates are made by Dup
	SYS_FCNTL       = 500
)

type Sockaddr any

type SockaddrInet4 struct {
	Port int
	Addr [4]byte
}

type SockaddrInet6 struct {
	Port   int
	ZoneId uint32
	Addr   [16]byte
}

type SockaddrUnix struct {
	Name string
}

type Linger struct {
	Onoff  int32
	Linger int32
}

type IPMreq struct {
	Multiaddr [4]byte
	Interface [4]byte
}

type IPMreqn struct {
	Multiaddr [4]byte
	Address   [4]byte
	Ifindex   int32
}

type IPv6Mreq struct {
	Multiaddr [16]byte
	Interface uint32
}

// hostSockaddr is an address in the form that the host reads and writes.
type hostSockaddr struct {
	_      structs.HostLayout
	family uint16
	port   uint16
	zone   uint32
	addr   [16]byte
	length uint32 // of name, a Unix socket's path
	name   [108]byte
}

func (h *hostSockaddr) set(sa Sockaddr) error {
	switch sa := sa.(type) {
	case *SockaddrInet4:
		return h.setInet4(sa)
	case *SockaddrInet6:
		return h.setInet6(sa)
	case *SockaddrUnix:
		if len(sa.Name) > len(h.name) {
			return EINVAL
		}
		h.family, h.length = AF_UNIX, uint32(copy(h.name[:], sa.Name))
		return nil
	}
	return EAFNOSUPPORT
}

func (h *hostSockaddr) setInet4(sa *SockaddrInet4) error {
	if uint(sa.Port) > 0xFFFF {
		return EINVAL
	}
	h.family, h.port = AF_INET, uint16(sa.Port)
	copy(h.addr[:], sa.Addr[:])
	return nil
}

func (h *hostSockaddr) setInet6(sa *SockaddrInet6) error {
	if uint(sa.Port) > 0xFFFF {
		return EINVAL
	}
	h.family, h.port, h.zone, h.addr = AF_INET6, uint16(sa.Port), sa.ZoneId, sa.Addr
	return nil
}

func (h *hostSockaddr) inet4(sa *SockaddrInet4) {
	sa.Port, sa.Addr = int(h.port), [4]byte(h.addr[:4])
}

func (h *hostSockaddr) inet6(sa *SockaddrInet6) {
	sa.Port, sa.ZoneId, sa.Addr = int(h.port), h.zone, h.addr
	if h.family == AF_INET { // a socket for both, where the rules allow an address of IPv4 only
		sa.Addr = [16]byte{10: 0xff, 11: 0xff}
		copy(sa.Addr[12:], h.addr[:4])
	}
}

// sockaddr returns the address, or nil if there is none.
func (h *hostSockaddr) sockaddr() Sockaddr {
	switch h.family {
	case AF_INET:
		sa := new(SockaddrInet4)
		h.inet4(sa)
		return sa
	case AF_INET6:
		sa := new(SockaddrInet6)
		h.inet6(sa)
		return sa
	case AF_UNIX:
		if h.length == 0 {
			return &SockaddrUnix{Name: "@"} // as Linux's, of a socket without a name
		}
		return &SockaddrUnix{Name: string(h.name[:min(int(h.length), len(h.name))])}
	}
	return nil
}

//go:wasmimport gothreads net_socket
//go:noescape
func net_socket(family, sotype, proto int32, fd *int32) Errno

//go:wasmimport gothreads net_bind
//go:noescape
func net_bind(fd int32, address *hostSockaddr) Errno

//go:wasmimport gothreads net_connect
//go:noescape
func net_connect(fd int32, address *hostSockaddr) Errno

//go:wasmimport gothreads net_listen
func net_listen(fd, backlog int32) Errno

//go:wasmimport gothreads net_accept
//go:noescape
func net_accept(fd int32, accepted *int32, peer *hostSockaddr) Errno

// net_name gives a socket's own address, or its peer's.
//
//go:wasmimport gothreads net_name
//go:noescape
func net_name(fd, peer int32, address *hostSockaddr) Errno

//go:wasmimport gothreads net_getsockopt
//go:noescape
func net_getsockopt(fd, level, option int32, value *int32) Errno

//go:wasmimport gothreads net_setsockopt
//go:noescape
func net_setsockopt(fd, level, option int32, value unsafe.Pointer, size int32) Errno

//go:wasmimport gothreads net_receive
//go:noescape
func net_receive(fd int32, p unsafe.Pointer, size, flags int32, from *hostSockaddr, n, outFlags *int32) Errno

// net_send sends to an address, or to the peer if to is nil.
//
//go:wasmimport gothreads net_send
//go:noescape
func net_send(fd int32, p unsafe.Pointer, size, flags int32, to *hostSockaddr, n *int32) Errno

//go:wasmimport gothreads net_shutdown
func net_shutdown(fd, how int32) Errno

//go:wasmimport gothreads fd_dup
//go:noescape
func fd_dup(fd int32, made *int32) Errno

func Socket(domain, typ, proto int) (fd int, err error) {
	var n int32
	if errno := net_socket(int32(domain), int32(typ), int32(proto), &n); errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func Bind(fd int, sa Sockaddr) error {
	var h hostSockaddr
	if err := h.set(sa); err != nil {
		return err
	}
	return errnoErr(net_bind(int32(fd), &h))
}

func Connect(fd int, sa Sockaddr) error {
	var h hostSockaddr
	if err := h.set(sa); err != nil {
		return err
	}
	return errnoErr(net_connect(int32(fd), &h))
}

func Listen(fd int, backlog int) error { return errnoErr(net_listen(int32(fd), int32(backlog))) }

func Accept(fd int) (int, Sockaddr, error) {
	var n int32
	var h hostSockaddr
	if errno := net_accept(int32(fd), &n, &h); errno != 0 {
		return -1, nil, errnoErr(errno)
	}
	return int(n), h.sockaddr(), nil
}

func Getsockname(fd int) (Sockaddr, error) { return nameOf(fd, 0) }

func Getpeername(fd int) (Sockaddr, error) { return nameOf(fd, 1) }

func nameOf(fd int, peer int32) (Sockaddr, error) {
	var h hostSockaddr
	if errno := net_name(int32(fd), peer, &h); errno != 0 {
		return nil, errnoErr(errno)
	}
	return h.sockaddr(), nil
}

func Recvfrom(fd int, p []byte, flags int) (n int, from Sockaddr, err error) {
	var h hostSockaddr
	n, _, err = receive(fd, p, flags, &h)
	if err != nil {
		return n, nil, err
	}
	return n, h.sockaddr(), nil
}

func recvfromInet4(fd int, p []byte, flags int, from *SockaddrInet4) (int, error) {
	var h hostSockaddr
	n, _, err := receive(fd, p, flags, &h)
	if err == nil {
		h.inet4(from)
	}
	return n, err
}

func recvfromInet6(fd int, p []byte, flags int, from *SockaddrInet6) (int, error) {
	var h hostSockaddr
	n, _, err := receive(fd, p, flags, &h)
	if err == nil {
		h.inet6(from)
	}
	return n, err
}

// Recvmsg receives no control messages.
func Recvmsg(fd int, p, oob []byte, flags int) (n, oobn, recvflags int, from Sockaddr, err error) {
	var h hostSockaddr
	n, recvflags, err = receive(fd, p, flags, &h)
	if err != nil {
		return n, 0, 0, nil, err
	}
	return n, 0, recvflags, h.sockaddr(), nil
}

func recvmsgInet4(fd int, p, oob []byte, flags int, from *SockaddrInet4) (n, oobn, recvflags int, err error) {
	var h hostSockaddr
	n, recvflags, err = receive(fd, p, flags, &h)
	if err == nil {
		h.inet4(from)
	}
	return n, 0, recvflags, err
}

func recvmsgInet6(fd int, p, oob []byte, flags int, from *SockaddrInet6) (n, oobn, recvflags int, err error) {
	var h hostSockaddr
	n, recvflags, err = receive(fd, p, flags, &h)
	if err == nil {
		h.inet6(from)
	}
	return n, 0, recvflags, err
}

func receive(fd int, p []byte, flags int, h *hostSockaddr) (n, outFlags int, err error) {
	var got, out int32
	if errno := net_receive(int32(fd), unsafe.Pointer(unsafe.SliceData(p)), int32(len(p)), int32(flags), h, &got, &out); errno != 0 {
		return 0, 0, errnoErr(errno)
	}
	return int(got), int(out), nil
}

func Sendto(fd int, p []byte, flags int, to Sockaddr) error {
	var h hostSockaddr
	if err := h.set(to); err != nil {
		return err
	}
	_, err := send(fd, p, nil, flags, &h)
	return err
}

func sendtoInet4(fd int, p []byte, flags int, to *SockaddrInet4) error {
	_, err := sendmsgNInet4(fd, p, nil, to, flags)
	return err
}

func sendtoInet6(fd int, p []byte, flags int, to *SockaddrInet6) error {
	_, err := sendmsgNInet6(fd, p, nil, to, flags)
	return err
}

func SendmsgN(fd int, p, oob []byte, to Sockaddr, flags int) (n int, err error) {
	if to == nil {
		return send(fd, p, oob, flags, nil)
	}
	var h hostSockaddr
	if err := h.set(to); err != nil {
		return 0, err
	}
	return send(fd, p, oob, flags, &h)
}

func sendmsgNInet4(fd int, p, oob []byte, to *SockaddrInet4, flags int) (n int, err error) {
	if to == nil {
		return send(fd, p, oob, flags, nil)
	}
	var h hostSockaddr
	if err := h.setInet4(to); err != nil {
		return 0, err
	}
	return send(fd, p, oob, flags, &h)
}

func sendmsgNInet6(fd int, p, oob []byte, to *SockaddrInet6, flags int) (n int, err error) {
	if to == nil {
		return send(fd, p, oob, flags, nil)
	}
	var h hostSockaddr
	if err := h.setInet6(to); err != nil {
		return 0, err
	}
	return send(fd, p, oob, flags, &h)
}

func send(fd int, p, oob []byte, flags int, to *hostSockaddr) (int, error) {
	if len(oob) != 0 {
		return 0, ENOTSUP // control messages: descriptors, credentials
	}
	var n int32
	if errno := net_send(int32(fd), unsafe.Pointer(unsafe.SliceData(p)), int32(len(p)), int32(flags), to, &n); errno != 0 {
		return 0, errnoErr(errno)
	}
	return int(n), nil
}

func GetsockoptInt(fd, level, opt int) (value int, err error) {
	var n int32
	if errno := net_getsockopt(int32(fd), int32(level), int32(opt), &n); errno != 0 {
		return 0, errnoErr(errno)
	}
	if level == SOL_SOCKET && opt == SO_ERROR {
		return int(n), nil // a number of WASI, as all of this package's
	}
	return int(n), nil
}

func SetsockoptInt(fd, level, opt int, value int) error {
	n := int32(value)
	return errnoErr(net_setsockopt(int32(fd), int32(level), int32(opt), unsafe.Pointer(&n), 4))
}

func SetsockoptByte(fd, level, opt int, value byte) error {
	return SetsockoptInt(fd, level, opt, int(value))
}

func SetsockoptInet4Addr(fd, level, opt int, value [4]byte) error {
	return errnoErr(net_setsockopt(int32(fd), int32(level), int32(opt), unsafe.Pointer(&value), 4))
}

func SetsockoptLinger(fd, level, opt int, l *Linger) error {
	return errnoErr(net_setsockopt(int32(fd), int32(level), int32(opt), unsafe.Pointer(l), 8))
}

func SetsockoptIPMreq(fd, level, opt int, mreq *IPMreq) error {
	return errnoErr(net_setsockopt(int32(fd), int32(level), int32(opt), unsafe.Pointer(mreq), 8))
}

func SetsockoptIPMreqn(fd, level, opt int, mreq *IPMreqn) error {
	return errnoErr(net_setsockopt(int32(fd), int32(level), int32(opt), unsafe.Pointer(mreq), 12))
}

func SetsockoptIPv6Mreq(fd, level, opt int, mreq *IPv6Mreq) error {
	return errnoErr(net_setsockopt(int32(fd), int32(level), int32(opt), unsafe.Pointer(mreq), 20))
}

func Shutdown(fd int, how int) error { return errnoErr(net_shutdown(int32(fd), int32(how))) }

// Dup returns another number for what fd refers to.
func Dup(fd int) (int, error) {
	var n int32
	if errno := fd_dup(int32(fd), &n); errno != 0 {
		return -1, errnoErr(errno)
	}
	return int(n), nil
}

func StopIO(fd int) error { return ENOSYS }

func SetReadDeadline(fd int, t int64) error { return ENOSYS }

func SetWriteDeadline(fd int, t int64) error { return ENOSYS }
