package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"
	"time"

	"gothreads/guest"
)

//go:wasmimport env again
func hostAgain(depth int32, n int64) int64

//go:wasmimport env pause
func hostPause(microseconds int32)

var numbers struct {
	sync.Mutex
	next int64
}

// take hands out the next count numbers, and returns the first of them. The bug: no lock.
//
//go:wasmexport take
func take(count int32, broken bool) int64 {
	if broken {
		first := numbers.next
		runtime.Gosched()
		numbers.next = first + int64(count)
		return first
	}
	numbers.Lock()
	defer numbers.Unlock()
	first := numbers.next
	for range count { // slowly, so that other calls come meanwhile
		numbers.next++
	}
	return first
}

type question struct {
	n     int64
	reply chan int64
}

var questions = make(chan question)

// serve answers the questions of ask, some dozens at a time, in any order. The bugs: two answers are swapped; one is
// forgotten.
//
//go:wasmexport serve
func serve(seed uint64, batch int32, swaps, forgets bool) {
	go func() {
		r := random(seed)
		var pending []question
		late := time.NewTicker(2 * time.Millisecond)
		for {
			full := false
			select {
			case q := <-questions:
				pending = append(pending, q)
				full = len(pending) >= int(batch)
			case <-late.C:
				full = true
			}
			if !full {
				continue
			}
			for i := len(pending) - 1; i > 0; i-- {
				other := r.below(i + 1)
				pending[i], pending[other] = pending[other], pending[i]
			}
			for i, q := range pending {
				n := q.n
				switch {
				case swaps && i > 0 && r.below(100) == 0:
					n = pending[i-1].n
				case forgets && r.below(100) == 0:
					continue
				}
				q.reply <- 2 * n
			}
			pending = pending[:0]
		}
	}()
}

// ask blocks until it gets its answer, twice the number.
//
//go:wasmexport ask
func ask(n int64) int64 {
	reply := make(chan int64)
	questions <- question{n, reply}
	return <-reply
}

// descend descends to depth 0 by way of the host, and adds one for each step on the way back.
//
//go:wasmexport descend
func descend(depth int32, n int64) int64 {
	if depth == 0 {
		return n
	}
	return hostAgain(depth-1, n+1) + 1
}

// fan lets goroutines descend at the same time, and adds up their results. The bug: they add without a lock.
//
//go:wasmexport fan
func fan(count, depth int32, n int64, broken bool) int64 {
	var group sync.WaitGroup
	var lock sync.Mutex
	var sum int64
	for i := range int64(count) {
		group.Go(func() {
			brought := descend(depth, n+i)
			if broken {
				before := sum
				runtime.Gosched()
				sum = before + brought
				return
			}
			lock.Lock()
			defer lock.Unlock()
			sum += brought
		})
	}
	group.Wait()
	return sum
}

// pause blocks in the host.
//
//go:wasmexport pause
func pause(microseconds int32) { hostPause(microseconds) }

// double calls the host's handler of that name, which answers later.
//
//go:wasmexport double
func double(n int64) int64 {
	answer, err := guest.Call("double", binary.LittleEndian.AppendUint64(nil, uint64(n)))
	if err != nil || len(answer) != 8 {
		failf("the host's handler answers %d bytes, %v", len(answer), err)
		return -1
	}
	return int64(binary.LittleEndian.Uint64(answer))
}

var events struct {
	sync.Mutex
	next     map[uint32]uint64 // by sender
	received int64
}

// listen receives events: a sender, a number, any bytes, and a checksum. The bug: two goroutines receive.
//
//go:wasmexport listen
func listen(broken bool) {
	events.next = map[uint32]uint64{}
	channel := guest.Events("number")
	for range map[bool]int{false: 1, true: 2}[broken] {
		go func() {
			for event := range channel {
				if broken {
					runtime.Gosched()
				}
				hear(event)
			}
		}()
	}
}

func hear(event []byte) {
	events.Lock()
	defer events.Unlock()
	events.received++
	if len(event) < 16 || crc32.ChecksumIEEE(event[4:]) != binary.LittleEndian.Uint32(event) {
		failf("an event of %d bytes does not have its checksum", len(event))
		return
	}
	sender, number := binary.LittleEndian.Uint32(event[4:]), binary.LittleEndian.Uint64(event[8:])
	if want := events.next[sender]; number != want {
		failf("sender %d: event %d comes where %d was next", sender, number, want)
	}
	events.next[sender] = number + 1
}

// received returns how many events have arrived, or -1 when one was wrong.
//
//go:wasmexport received
func received() int64 {
	events.Lock()
	defer events.Unlock()
	if failed() {
		return -1
	}
	return events.received
}

var hoard struct {
	sync.Mutex
	kept [][]byte
}

// keep allocates memory and never frees it: more bytes in all than there are. The bug: an index out of range on the
// way.
//
//go:wasmexport keep
func keep(seed uint64, bytes int64, broken bool) {
	r := random(seed)
	for taken := int64(0); taken < bytes; {
		block := make([]byte, 1+r.below([]int{100, 10_000, 1_000_000}[r.below(3)]))
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		taken += int64(len(block))
		hoard.Lock()
		hoard.kept = append(hoard.kept, block)
		hoard.Unlock()
		if broken && taken > 1<<20 {
			fmt.Println(hoard.kept[len(hoard.kept)+r.below(5)])
		}
	}
}
