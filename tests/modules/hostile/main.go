// Hostile tries what Go's own packages would never ask of a host. Each argument is one attempt; what the host answers, an
// error number of WASI's or what was got, is printed.
package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

//go:wasmimport gothreads sock_listen
func sockListen(network, address string, fd uint32) int32

//go:wasmimport gothreads sock_dial
func sockDial(network, address string, attempt int32, fd uint32) int32

//go:wasmimport gothreads poll_open
func pollOpen(fd int32, pd uint32, seq uint32) int32

//go:wasmimport wasi_snapshot_preview1 fd_read
func fdRead(fd uint32, vectors unsafe.Pointer, count uint32, done *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_write
func fdWrite(fd uint32, vectors unsafe.Pointer, count uint32, done *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_fdstat_set_flags
func setFlags(fd, flags uint32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_allocate
func allocate(fd uint32, offset, length uint64) uint32

//go:wasmimport wasi_snapshot_preview1 path_readlink
func readlink(fd uint32, path string, buffer unsafe.Pointer, size uint32, done *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 path_filestat_set_times
func setTimes(fd, lookup uint32, path string, accessed, modified uint64, flags uint32) uint32

type vector struct{ address, size uint32 }

func addressOf(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }

const wild = 0xFFFFFFF0 // no memory is there

func main() {
	argument := func(i int) string { return os.Args[2+i] }
	var fd int32
	out := addressOf(unsafe.Pointer(&fd))
	switch os.Args[1] {
	case "listen":
		fmt.Println(sockListen("tcp", argument(0), out))
	case "dial":
		fmt.Println(sockDial("tcp", argument(0), 0, out))
	case "dial a link":
		os.Remove("/m/allowed.sock")
		os.Symlink(argument(1), "/m/allowed.sock")
		fmt.Println(sockDial("unix", argument(0), 0, out))
	case "swap a listener's folder":
		os.Mkdir("/m/d", 0o777)
		fmt.Println(sockListen("unix", argument(0), out))
		os.Rename("/m/d", "/m/e")
		os.Symlink(argument(1), "/m/d")
	case "read another's":
		readAnothers(argument(0))
	case "vectors":
		block := make([]byte, 1<<20)
		vectors := make([]vector, 1024) // a gigabyte, of one megabyte
		for i := range vectors {
			vectors[i] = vector{addressOf(unsafe.Pointer(&block[0])), 1 << 20}
		}
		var done uint32
		fmt.Println(fdWrite(1, unsafe.Pointer(&vectors[0]), 1024, &done))
	case "poll":
		fmt.Println(sockListen("tcp", "127.0.0.1:0", out))
		opened := 0
		for opened < 100_000 && pollOpen(fd, uint32(opened), 1) == 0 {
			opened++
		}
		fmt.Println(opened)
	case "links":
		for _, path := range []string{"etc/", "etc/passwd", "no such thing"} {
			os.Remove("/m/link")
			os.Symlink(argument(0)+path, "/m/link")
			var buffer [64]byte
			var size uint32
			fmt.Println(readlink(3, "link/", unsafe.Pointer(&buffer), 64, &size))
		}
	case "numbers":
		fmt.Println(setFlags(0, 0x10000), setFlags(3, 1<<31), allocate(3, 1<<63, 1<<63))
	case "times":
		swapTimes(argument(0))
	case "look around":
		lookAround()
	case "exchange":
		exchange(argument(0), argument(1))
	case "listings":
		listings()
	case "sockets":
		sockets(20_000)
	case "scribble":
		scribble()
	case "descriptors":
		var files []*os.File
		for {
			file, err := os.Open("/m/file")
			if err != nil {
				fmt.Println(err)
				break
			}
			files = append(files, file)
		}
		files[0].Close()
		_, err := os.ReadFile("/m/file")
		fmt.Println(err)
	default:
		messages(os.Args[1])
	}
}

// readAnothers dials with a place for the answer that is not there, so that the host closes the socket at once, and reads
// from its number meanwhile: by then the host may have something else there.
func readAnothers(address string) {
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var buffer [64]byte
			v := vector{addressOf(unsafe.Pointer(&buffer)), 64}
			var size uint32
			for !stop.Load() {
				if fdRead(1<<16, unsafe.Pointer(&v), 1, &size) == 0 && size > 0 {
					fmt.Printf("%q\n", buffer[:size])
				}
			}
		})
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		sockDial("tcp", address, 0, wild)
	}
	stop.Store(true)
	readers.Wait()
}

// swapTimes sets the times of what a link to a folder leads to, while that folder is exchanged for a link to outside.
func swapTimes(outside string) {
	os.Mkdir("/m/d", 0o777)
	os.Symlink(outside, "/m/other")
	os.Symlink("d/", "/m/link")
	var stop atomic.Bool
	var setters sync.WaitGroup
	for range 2 {
		setters.Go(func() {
			for !stop.Load() {
				for _, path := range []string{"link", "link/", "d/", "d"} {
					setTimes(3, 1, path, 1e9, 1e9, 5)
					setTimes(3, 0, path, 1e9, 1e9, 5)
				}
			}
		})
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		syscall.Rename("/m/d", "/m/kept")
		syscall.Rename("/m/other", "/m/d")
		syscall.Rename("/m/d", "/m/other")
		syscall.Rename("/m/kept", "/m/d")
	}
	stop.Store(true)
	setters.Wait()
}

// lookAround prints what there is: variables, descriptors, and how many files are found by names that most machines have.
func lookAround() {
	fmt.Println(os.Environ())
	descriptors := 0
	for fd := uint32(3); fd < 1<<17; fd++ {
		if setFlags(fd, 0) != 8 { // EBADF
			descriptors++
		}
	}
	fmt.Println(descriptors)
	found := 0
	for _, name := range []string{"/", ".", "/etc/passwd", "/proc/self/environ", "/dev/null", "../../../../etc/passwd"} {
		if _, err := os.Stat(name); err == nil {
			found++
		}
	}
	fmt.Println(found, "of 6")
	fmt.Println(os.ReadDir("/"))
}

//go:wasmimport wasi_snapshot_preview1 path_open
func pathOpen(fd, lookup uint32, path unsafe.Pointer, length, oflags uint32, rights, inheriting uint64, flags uint32, opened *uint32) uint32

//go:wasmimport gothreads sock_dial
func sockDialAt(network string, address unsafe.Pointer, length uint32, attempt int32, fd unsafe.Pointer) int32

// exchange has calls made with arguments that other threads change meanwhile. It prints what should not be, and how often calls went well.
func exchange(allowed, other string) {
	path, address := []byte("aa/file"), []byte(allowed)
	buffer := make([]byte, 64)
	vectors := []vector{{addressOf(unsafe.Pointer(&buffer[0])), 64}}
	good := vectors[0]
	var stop atomic.Bool
	var changers, callers sync.WaitGroup
	changers.Go(func() {
		for !stop.Load() {
			copy(path, "../file")
			copy(path, "aa/file")
			copy(address, other)
			copy(address, allowed)
		}
	})
	changers.Go(func() {
		for !stop.Load() {
			vectors[0] = vector{wild, 64}
			vectors[0] = good
			vectors[0].size = 1<<32 - 1
			vectors[0] = good
		}
	})
	var opened, dialled atomic.Int64
	for range 2 {
		callers.Go(func() {
			for !stop.Load() {
				var fd, done uint32
				if pathOpen(3, 1, unsafe.Pointer(&path[0]), uint32(len(path)), 0, 2, 0, 0, &fd) != 0 {
					continue
				}
				opened.Add(1)
				own := make([]byte, 64)
				if fdRead(fd, unsafe.Pointer(&vector{addressOf(unsafe.Pointer(&own[0])), 64}), 1, &done); string(own[:done]) != "inside" {
					fmt.Printf("%q\n", own[:done])
				}
				fdRead(fd, unsafe.Pointer(&vectors[0]), 1, &done)
				fdClose(fd)
			}
		})
		callers.Go(func() {
			for !stop.Load() {
				var fd uint32
				if sockDialAt("tcp", unsafe.Pointer(&address[0]), uint32(len(address)), 0, unsafe.Pointer(&fd)) == 0 {
					dialled.Add(1)
					fdClose(fd)
				}
			}
		})
	}
	time.Sleep(2 * time.Second)
	stop.Store(true)
	callers.Wait()
	changers.Wait()
	fmt.Println(opened.Load())
	fmt.Println(dialled.Load())
}

// listings reads a folder through many descriptors, which all stay open; then through two at once, in turns.
func listings() {
	var open []*os.File
	for range 600 {
		folder, err := os.Open("/m")
		if err == nil {
			_, err = folder.Readdirnames(1)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		open = append(open, folder)
	}
	names := map[string]int{}
	for more := true; more; {
		more = false
		for _, folder := range open[:2] {
			some, _ := folder.Readdirnames(100)
			more = more || len(some) > 0
			for _, name := range some {
				names[name]++
			}
		}
	}
	seen := 0
	for _, times := range names {
		seen += times
	}
	fmt.Println(len(names), seen)
}

// scribble writes over all that the host may keep below Go's data, again and again.
func scribble() {
	for i := range 20 {
		go func() { time.Sleep(time.Duration(i) * time.Hour) }()
	}
	fmt.Println("ready")
	for n := uint32(0); ; n++ {
		for address := uintptr(8); address < 12288; address += 4 {
			*(*uint32)(unsafe.Pointer(address)) = n*4 + 0x10000
		}
		time.Sleep(time.Millisecond)
	}
}
