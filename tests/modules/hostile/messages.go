package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"
)

//go:wasmimport gothreads msg_call
func msgCall(number uint64, name, nameLength, payload, length uint32) int32

//go:wasmimport gothreads msg_notify
func msgNotify(name, nameLength, payload, length uint32) int32

//go:wasmimport gothreads msg_cancel
func msgCancel(number uint64) int32

//go:wasmimport gothreads msg_replies
func msgReplies(fd uint32) int32

//go:wasmimport gothreads msg_events
func msgEvents(name, nameLength, fd uint32) int32

//go:wasmimport gothreads idle_open
func idleOpen(fd uint32) int32

//go:wasmimport wasi_snapshot_preview1 fd_pread
func fdPread(fd uint32, vectors unsafe.Pointer, count uint32, offset uint64, done *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_close
func fdClose(fd uint32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_renumber
func fdRenumber(from, to uint32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_filestat_set_size
func setSize(fd uint32, size uint64) uint32

//go:wasmimport wasi_snapshot_preview1 sock_accept
func sockAccept(fd, flags uint32, accepted *uint32) uint32

// given is where the host puts a descriptor. (A goroutine's stack may move.)
var given uint32

func textAt(text string) (address, length uint32) {
	return addressOf(unsafe.Pointer(unsafe.StringData(text))), uint32(len(text))
}

func newQueue(name string) uint32 {
	address, length := textAt(name)
	if errno := msgEvents(address, length, addressOf(unsafe.Pointer(&given))); errno != 0 {
		fmt.Println("no queue", errno)
		os.Exit(1)
	}
	return given
}

// read reads until something is there.
func read(fd uint32, vectors ...vector) (uint32, uint32) {
	for {
		var done uint32
		errno := fdRead(fd, unsafe.Pointer(&vectors[0]), uint32(len(vectors)), &done)
		if errno != 6 { // EAGAIN
			return errno, done
		}
		time.Sleep(time.Millisecond)
	}
}

func messages(what string) {
	out := addressOf(unsafe.Pointer(&given))
	block := make([]byte, 16<<20)
	payload := addressOf(unsafe.Pointer(&block[0]))
	handler, length := textAt("handler")
	switch what {
	case "call":
		fmt.Println(msgReplies(wild), msgCall(1, handler, length, payload, 4))
		fmt.Println(msgReplies(out))
		fmt.Println(msgCall(1, wild, 7, payload, 4), msgCall(1, handler, 1<<20, payload, 4), msgCall(1, handler, 3, payload, 4))
		fmt.Println(msgCall(1, handler, length, wild, 100), msgCall(1, handler, length, payload, 1<<31), msgCall(1, handler, length, wild, 0))
		fmt.Println(msgCall(1, handler, length, payload, 4), msgCall(1<<64-1, handler, length, payload, 4), msgCancel(1<<63), msgCancel(1))
		fmt.Println(msgNotify(wild, 7, payload, 4), msgNotify(handler, 1<<31, payload, 4), msgNotify(handler, 0, payload, 4), msgNotify(handler, length, wild, 4))
		fmt.Println(msgEvents(wild, 1, out), msgEvents(handler, 1<<16, out), msgEvents(handler, length, wild), idleOpen(wild))
		bad, size := textAt("\xff\xfe")
		fmt.Println(msgCall(3, bad, size, payload, 0), msgEvents(bad, size, out), msgEvents(bad, 0, out))
	case "read":
		queue := newQueue("queue")
		small := func(size int) vector { return vector{payload, uint32(size)} }
		fmt.Println("ready")
		var text []byte
		for len(text) < 4+26 { // one event, in odd pieces
			errno, done := read(queue, small(len(text)%3+1), vector{payload + 8, 100})
			if errno != 0 {
				fmt.Println(errno)
			}
			text = append(text, block[:done]...)
		}
		fmt.Printf("%q\n", text)
		var done, accepted uint32
		none, one, at := []vector{{payload, 0}, {wild, 0}}, []vector{{payload, 1}}, unsafe.Pointer(nil)
		fmt.Println(fdRead(queue, at, 0, &done), fdRead(queue, unsafe.Pointer(&none[0]), 2, &done), done)
		fmt.Println(fdPread(queue, unsafe.Pointer(&one[0]), 1, 0, &done), fdWrite(queue, unsafe.Pointer(&one[0]), 1, &done))
		fmt.Println(setSize(queue, 0), sockAccept(queue, 0, &accepted), setFlags(queue, 0), fdRead(queue, unsafe.Pointer(&one[0]), 1, &done))
		errno, _ := read(queue, vector{wild, 100})
		fmt.Println(errno)
		other := newQueue("queue") // of the same name: reads what the first does not
		fmt.Println(fdClose(queue), fdRead(queue, unsafe.Pointer(&one[0]), 1, &done))
		fmt.Println(fdRenumber(other, 0), fdClose(0), fdRenumber(1<<16, 1<<17))
		fmt.Println("done")
		third := newQueue("queue")
		errno, size := read(third, small(1000))
		fmt.Printf("%d %q\n", errno, block[4:size])
	case "names":
		had := 0
		for {
			address, length := textAt(fmt.Sprint("name ", had))
			if errno := msgEvents(address, length, out); errno != 0 {
				fmt.Println(had, errno)
				break
			}
			had++
			fdClose(given)
		}
	case "cancel", "unread":
		// Without an end, but for what the host bears: calls that are cancelled at once, replies that nobody reads.
		fmt.Println(msgReplies(out))
		for number := uint64(0); ; number++ {
			if errno := msgCall(number, handler, length, payload, 16<<20); errno != 0 {
				fmt.Println(number < 1000, errno)
				break
			}
			if what == "cancel" {
				msgCancel(number)
			} else if number > 1000 {
				break
			}
		}
	case "ring":
		// Events that nobody takes: the scheduler has no idle M, which would.
		for i := range 3 {
			fmt.Println(pollOpen(int32(newQueue(fmt.Sprint("queue ", i))), 4, 1))
		}
		fmt.Println("ready")
		for { // nobody can call this program: if it waited, that would be a deadlock
			runtime.Gosched()
		}
	}
}
