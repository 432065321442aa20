package main

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// stackStorm: recursions whose frames hold values, and pointers to values in other frames, while stacks grow (are
// copied elsewhere), the collector shrinks them, and loops are preempted. The bug: a frame keeps the address of a
// variable on the stack as a number, which is not adjusted when the stack moves.
type stackStorm struct {
	broken bool
	frames atomic.Int64
}

func newStacks(broken bool) storm { return &stackStorm{broken: broken} }

func (s *stackStorm) round(r *random) int64 {
	depth := 5 + r.below(100)
	if r.below(32) == 0 {
		depth = 1000 + r.below(3000)
	}
	own, frames := random(r.next()), int64(0)
	run := func() {
		var count int64
		at := uintptr(unsafe.Pointer(&count))
		s.descend(&own, depth, &count, at)
		if count != int64(depth) {
			failf("%d frames have counted themselves in a variable further up the stack, which has %d", depth, count)
		}
		frames = count
	}
	if r.below(2) == 0 { // a new goroutine's stack is small
		done := make(chan struct{})
		go func() {
			defer close(done)
			run()
		}()
		<-done
	} else {
		run()
	}
	if r.below(1024) == 0 {
		runtime.GC()
	}
	s.frames.Add(int64(depth))
	return frames
}

//go:noinline
func (s *stackStorm) descend(r *random, depth int, count *int64, at uintptr) uint64 {
	var frame [24]uint64
	mark := r.next()
	for i := range frame {
		frame[i] = mark + uint64(i)
	}
	if s.broken {
		*(*int64)(unsafe.Pointer(at))++
	} else {
		*count++
	}
	sum := r.spin(20) & 1
	if depth%64 == 0 {
		runtime.Gosched()
	}
	if depth > 1 {
		if depth%3 == 0 {
			sum += s.wide(r, depth-1, count, at)
		} else {
			sum += s.descend(r, depth-1, count, at)
		}
	}
	for i := range frame {
		if frame[i] != mark+uint64(i) {
			failf("word %d of a frame is %#x, not %#x, after its callees have returned", i, frame[i], mark+uint64(i))
			break
		}
	}
	return sum
}

// wide adds a large frame.
//
//go:noinline
func (s *stackStorm) wide(r *random, depth int, count *int64, at uintptr) uint64 {
	var frame [3000]byte
	place := r.below(len(frame))
	frame[place] = byte(depth)
	sum := s.descend(r, depth, count, at)
	if frame[place] != byte(depth) {
		failf("a byte of a large frame is %d, not %d", frame[place], byte(depth))
	}
	return sum
}

func (s *stackStorm) total() int64 { return s.frames.Load() }
