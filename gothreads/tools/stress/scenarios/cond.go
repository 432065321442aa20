package main

import (
	"runtime"
	"sync"
)

// condStorm: a queue with room for three, whose users wait by sync.Cond for room or for an item. Every item is taken,
// once, in order. The bug: a goroutine that was woken does not check its condition again.
type condStorm struct {
	broken       bool
	lock         sync.Mutex
	room, filled *sync.Cond
	queue        []int64
	put, taken   int64 // numbers: the next to be put, the next to be taken
}

const condRoom = 3

func newCond(broken bool) storm {
	c := &condStorm{broken: broken}
	c.room, c.filled = sync.NewCond(&c.lock), sync.NewCond(&c.lock)
	return c
}

// round puts one item and takes one: so whatever a goroutine waits for, another is about to do it.
func (c *condStorm) round(r *random) int64 {
	all := r.below(4) == 0
	c.lock.Lock()
	for len(c.queue) >= condRoom {
		c.room.Wait()
		if c.broken {
			break
		}
	}
	if len(c.queue) >= condRoom {
		failf("a goroutine woken by a sync.Cond finds no room: %d are in a queue for %d", len(c.queue), condRoom)
	}
	c.queue = append(c.queue, c.put)
	c.put++
	c.wake(c.filled, all)
	c.lock.Unlock()
	if r.below(8) == 0 {
		runtime.Gosched()
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	for len(c.queue) == 0 {
		c.filled.Wait()
		if c.broken {
			break
		}
	}
	if len(c.queue) == 0 {
		failf("a goroutine woken by a sync.Cond finds the queue empty")
		return 0
	}
	if c.queue[0] != c.taken {
		failf("number %d is taken, and the next was %d", c.queue[0], c.taken)
	}
	c.queue = c.queue[1:]
	c.taken++
	c.wake(c.room, all)
	return 1
}

func (c *condStorm) wake(who *sync.Cond, all bool) {
	if all {
		who.Broadcast()
	} else {
		who.Signal()
	}
}

func (c *condStorm) total() int64 {
	if c.put != c.taken || len(c.queue) != 0 {
		failf("%d were put, %d were taken, %d are left", c.put, c.taken, len(c.queue))
	}
	return c.taken
}
