package guest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"

	"gothreads/guest/slot"
)

//go:wasmimport gothreads msg_cancels
func msg_cancels(fd *int32) int32

// watchCancels starts the goroutine that cancels requests for which nobody waits any more.
var watchCancels = sync.OnceFunc(func() {
	var fd int32
	if errno := msg_cancels(&fd); errno != 0 {
		panic(fmt.Sprintf("guest.HandleContext: %v", syscall.Errno(errno)))
	}
	in := bufio.NewReader(os.NewFile(uintptr(fd), "gothreads cancels"))
	go func() {
		var message [8]byte
		for {
			read(in, message[:])
			slot.GiveUp(binary.LittleEndian.Uint32(message[:]), binary.LittleEndian.Uint32(message[4:]))
		}
	}()
})
