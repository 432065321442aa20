package main

import (
	"encoding/binary"
	"sync"
	"time"
)

// work runs in the background, and records when each of its steps was done, in nanoseconds since 1970.
type work struct {
	sync.Mutex
	stop         chan struct{}
	steps, ticks []int64
	done         sync.WaitGroup
}

var background work

const (
	stepBoard   = 7 // of queens: some tens of microseconds
	sliceSteps  = 200
	tickEvery   = 10 * time.Millisecond
	mostOfSteps = 1 << 20
)

// work_begin starts a ticker of 10 ms and, unless busy is 0, work in slices of a millisecond or two with a short pause
// between them, like a program that indexes what it reads.
//
//go:wasmexport work_begin
func work_begin(busy int64) {
	w := &background
	w.stop = make(chan struct{})
	w.Lock()
	w.steps, w.ticks = w.steps[:0], w.ticks[:0]
	w.Unlock()
	if busy != 0 {
		w.done.Add(1)
		go w.run()
	}
	w.done.Add(1)
	go w.tick()
}

func (w *work) run() {
	defer w.done.Done()
	for {
		for range sliceSteps {
			if queens(stepBoard) != 40 {
				panic("queens: wrong")
			}
			w.note(&w.steps)
		}
		select {
		case <-w.stop:
			return
		case <-time.After(500 * time.Microsecond):
		}
	}
}

func (w *work) tick() {
	defer w.done.Done()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
			w.note(&w.ticks)
		}
	}
}

func (w *work) note(times *[]int64) {
	w.Lock()
	if len(*times) < mostOfSteps {
		*times = append(*times, time.Now().UnixNano())
	}
	w.Unlock()
}

// work_end ends what work_begin has started.
//
//go:wasmexport work_end
func work_end() {
	close(background.stop)
	background.done.Wait()
}

// progress returns the times of the ticks (payload: t) or of the steps, eight bytes each.
func progress(payload []byte) ([]byte, error) {
	w := &background
	w.Lock()
	defer w.Unlock()
	times := w.steps
	if string(payload) == "t" {
		times = w.ticks
	}
	answer := make([]byte, 0, 8*len(times))
	for _, at := range times {
		answer = binary.LittleEndian.AppendUint64(answer, uint64(at))
	}
	return answer, nil
}
