//go:build wasip1

package unix

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// As net.go has them for Unix, in place of net_wasip1.go.

//go:linkname RecvfromInet4 syscall.recvfromInet4
func RecvfromInet4(fd int, p []byte, flags int, from *syscall.SockaddrInet4) (int, error)

//go:linkname RecvfromInet6 syscall.recvfromInet6
func RecvfromInet6(fd int, p []byte, flags int, from *syscall.SockaddrInet6) (n int, err error)

//go:linkname SendtoInet4 syscall.sendtoInet4
func SendtoInet4(fd int, p []byte, flags int, to *syscall.SockaddrInet4) (err error)

//go:linkname SendtoInet6 syscall.sendtoInet6
func SendtoInet6(fd int, p []byte, flags int, to *syscall.SockaddrInet6) (err error)

//go:linkname SendmsgNInet4 syscall.sendmsgNInet4
func SendmsgNInet4(fd int, p, oob []byte, to *syscall.SockaddrInet4, flags int) (n int, err error)

//go:linkname SendmsgNInet6 syscall.sendmsgNInet6
func SendmsgNInet6(fd int, p, oob []byte, to *syscall.SockaddrInet6, flags int) (n int, err error)

//go:linkname RecvmsgInet4 syscall.recvmsgInet4
func RecvmsgInet4(fd int, p, oob []byte, flags int, from *syscall.SockaddrInet4) (n, oobn int, recvflags int, err error)

//go:linkname RecvmsgInet6 syscall.recvmsgInet6
func RecvmsgInet6(fd int, p, oob []byte, flags int, from *syscall.SockaddrInet6) (n, oobn int, recvflags int, err error)
