package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"unsafe"
)

//go:wasmimport gothreads net_socket
func netSocket(family, kind, proto, fd uint32) uint32

//go:wasmimport gothreads net_bind
func netBind(fd, address uint32) uint32

//go:wasmimport gothreads net_listen
func netListen(fd, backlog uint32) uint32

//go:wasmimport gothreads net_connect
func netConnect(fd, address uint32) uint32

//go:wasmimport gothreads net_accept
func netAccept(fd, accepted, peer uint32) uint32

//go:wasmimport gothreads net_name
func netName(fd, peer, address uint32) uint32

//go:wasmimport gothreads net_getsockopt
func netGetsockopt(fd, level, option, value uint32) uint32

//go:wasmimport gothreads net_setsockopt
func netSetsockopt(fd, level, option, value, size uint32) uint32

//go:wasmimport gothreads net_receive
func netReceive(fd, data, size, flags, from, done, outFlags uint32) uint32

//go:wasmimport gothreads net_send
func netSend(fd, data, size, flags, to, done uint32) uint32

//go:wasmimport gothreads net_shutdown
func netShutdown(fd, how uint32) uint32

//go:wasmimport gothreads net_lookup
func netLookup(kind, kindLength, name, nameLength, buffer, size, done uint32) uint32

//go:wasmimport gothreads fd_dup
func fdDup(fd, made uint32) uint32

// scratch is what the calls may write to; sockaddrs holds addresses, good and bad, which threads change meanwhile.
var (
	scratch   [4096]byte
	sockaddrs [64][136]byte
)

// sockets makes calls with sockets, and with arguments that are often wrong, from four goroutines that share the
// descriptors. It prints how many calls went well: some, as the arguments are sometimes right.
func sockets(rounds int) {
	place := func(p unsafe.Pointer, size uint32) uint32 {
		switch rand.N(12) {
		case 0:
			return 0xFFFFFFFF - rand.N(uint32(200))
		case 1:
			return rand.N(uint32(1 << 31))
		}
		return addressOf(p) + rand.N(size)
	}
	room := func() uint32 { return place(unsafe.Pointer(&scratch), 2048) }
	address := func() uint32 {
		a := &sockaddrs[rand.N(len(sockaddrs))]
		switch rand.N(4) {
		case 0: // 127.0.0.1 and a port
			*a = [136]byte{2, 0, byte(rand.N(4)), 128, 8: 127, 11: 1}
		case 1: // [::1]
			*a = [136]byte{10, 0, byte(rand.N(4)), 128, 23: 1}
		case 2:
			*a = [136]byte{1, 24: byte(rand.N(256)), 28: '/', 29: 'm'}
		default:
			for i := range a {
				a[i] = byte(rand.N(256))
			}
			a[0], a[1] = []byte{1, 2, 10}[rand.N(3)], 0
		}
		if rand.N(10) == 0 {
			return room()
		}
		return addressOf(unsafe.Pointer(a))
	}
	small := func() uint32 {
		return []uint32{0, 1, 2, 3, 4, 6, 7, 8, 10, 13, 17, 26, 41, 1 << 16, 1 << 31}[rand.N(15)]
	}
	number := func() uint32 { return []uint32{3, 5, 1<<16 - 1, 1 << 20, 1 << 31}[rand.N(5)] }
	well := make(chan int, 4)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var made [8]uint32 // descriptors
			good := 0
			for range rounds {
				at := rand.N(len(made))
				fd := made[at]
				if rand.N(20) == 0 {
					fd = number()
				}
				to := addressOf(unsafe.Pointer(&scratch)) + uint32(at)*4
				errno := uint32(1)
				switch rand.N(18) {
				case 0, 1:
					kind := uint32(1 + rand.N(2))
					if errno = netSocket([]uint32{1, 2, 10, small()}[rand.N(4)], kind, 0, to); errno == 0 {
						if made[at] != 0 {
							fdClose(made[at])
						}
						made[at] = *(*uint32)(unsafe.Pointer(&scratch[at*4]))
					}
				case 2:
					errno = netBind(fd, address())
				case 3:
					errno = netListen(fd, small())
				case 4:
					errno = netConnect(fd, address())
				case 5:
					errno = netAccept(fd, room(), room())
				case 6:
					errno = netName(fd, small(), room())
				case 7:
					errno = netGetsockopt(fd, small(), small(), room())
				case 8:
					errno = netSetsockopt(fd, small(), small(), room(), small())
				case 9:
					errno = netReceive(fd, room(), small(), small(), room(), room(), room())
				case 10:
					errno = netSend(fd, room(), small(), 0, []uint32{0, address()}[rand.N(2)], room())
				case 11:
					errno = netShutdown(fd, small())
				case 12:
					errno = netLookup(room(), small(), room(), small(), room(), small(), room())
				case 13:
					errno = fdDup(fd, room())
				case 14:
					// Go's runtime gets these events too, and ignores those of another sequence number.
					errno = uint32(pollOpen(int32(fd), addressOf(unsafe.Pointer(&scratch)), 0xFFFFFFFF))
				case 15:
					*(*[2]uint32)(unsafe.Pointer(&scratch[2048])) = [2]uint32{room(), small()}
					errno = fdWrite(fd, unsafe.Pointer(&scratch[2048]), small(), (*uint32)(unsafe.Pointer(&scratch[2056])))
				case 16:
					*(*[2]uint32)(unsafe.Pointer(&scratch[2048])) = [2]uint32{room(), small()}
					errno = fdRead(fd, unsafe.Pointer(&scratch[2048]), small(), (*uint32)(unsafe.Pointer(&scratch[2056])))
				case 17:
					if fd >= 1<<16 {
						errno = fdClose(fd)
						made[at] = 0
					}
				}
				if errno == 0 {
					good++
				}
			}
			well <- good
		})
	}
	all.Wait()
	close(well)
	sum := 0
	for n := range well {
		sum += n
	}
	fmt.Println("calls that went well:", sum)
}
