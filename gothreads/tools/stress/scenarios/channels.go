package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// An item is sent by a sender: numbers from 1, then a last one.
type item struct {
	sender, number int64
	last           bool
	reply          chan<- int64 // with the last: gets the number of items that have arrived
}

// channelStorm: senders that send in order; each channel has one receiver, which finds every number, in order.
// The bug: each has two receivers.
type channelStorm struct {
	lanes     [4]chan item
	receivers sync.WaitGroup
	senders   atomic.Int64
	received  atomic.Int64
}

func newChannels(broken bool) storm {
	c := &channelStorm{}
	for i := range c.lanes {
		c.lanes[i] = make(chan item, []int{0, 1, 7, 64}[i])
		var lock sync.Mutex // for the second receiver of the bug
		next := map[int64]int64{}
		for range map[bool]int{false: 1, true: 2}[broken] {
			c.receivers.Go(func() {
				for it := range c.lanes[i] {
					if broken {
						runtime.Gosched()
					}
					lock.Lock()
					c.take(it, next)
					lock.Unlock()
				}
			})
		}
	}
	return c
}

func (c *channelStorm) take(it item, next map[int64]int64) {
	c.received.Add(1)
	next[it.sender]++
	if it.number != next[it.sender] {
		failf("sender %d: number %d comes where %d was next", it.sender, it.number, next[it.sender])
	}
	if it.last {
		it.reply <- next[it.sender]
		delete(next, it.sender)
	}
}

func (c *channelStorm) round(r *random) int64 {
	if r.below(32) == 0 {
		shareOut(r)
		return 0
	}
	sender, count := c.senders.Add(1), int64(1+r.below(16))
	lane, reply := c.lanes[r.below(len(c.lanes))], make(chan int64, 1)
	for number := int64(1); number <= count; number++ {
		lane <- item{sender, number, number == count, reply}
	}
	if came := <-reply; came != count {
		failf("sender %d: %d were sent, %d arrived", sender, count, came)
	}
	return count
}

// shareOut sends numbers to several receivers, which end when the channel is closed: each number goes to one of them.
func shareOut(r *random) {
	numbers, count := make(chan int64, r.below(4)), int64(r.below(100))
	var receivers sync.WaitGroup
	var sum atomic.Int64
	for range 1 + r.below(4) {
		receivers.Go(func() {
			for n := range numbers {
				sum.Add(n)
			}
		})
	}
	for n := range count {
		numbers <- n
	}
	close(numbers)
	receivers.Wait()
	if want := count * (count - 1) / 2; sum.Load() != want {
		failf("numbers that were sent before a channel was closed add up to %d, those that were received to %d", want, sum.Load())
	}
	if _, open := <-numbers; open {
		failf("a closed channel that was emptied is not closed")
	}
}

func (c *channelStorm) total() int64 {
	for _, lane := range c.lanes {
		close(lane)
	}
	c.receivers.Wait()
	return c.received.Load()
}

// selectStorm: senders that send to whichever of two channels is ready; one receiver, which receives from whichever has
// something. Nothing is lost, and the items of one sender on one channel arrive in order. The bug: an item that no
// channel takes at once is dropped, but counted as sent.
type selectStorm struct {
	broken   bool
	lanes    [4]chan item
	quit     chan struct{}
	receiver sync.WaitGroup
	senders  chan *item // the idle ones, each with the item that it sent last
	received int64
}

const mostSenders = 256

func newSelect(broken bool) storm {
	s := &selectStorm{broken: broken, quit: make(chan struct{}), senders: make(chan *item, mostSenders)}
	for i := range s.lanes {
		s.lanes[i] = make(chan item, []int{0, 0, 3, 40}[i])
	}
	for i := range int64(mostSenders) {
		s.senders <- &item{sender: i}
	}
	s.receiver.Go(s.receive)
	return s
}

func (s *selectStorm) receive() {
	var highest [4][mostSenders]int64
	var never chan item
	for {
		var it item
		var lane int
		select {
		case it = <-s.lanes[0]:
		case it = <-s.lanes[1]:
			lane = 1
		case it = <-s.lanes[2]:
			lane = 2
		case it = <-s.lanes[3]:
			lane = 3
		case <-never:
			failf("a receive from a nil channel returns")
		case <-time.After(time.Minute): // a timer that is abandoned
			continue
		case <-s.quit:
			return
		}
		s.received++
		if it.number <= highest[lane][it.sender] {
			failf("sender %d: number %d comes after %d", it.sender, it.number, highest[lane][it.sender])
		}
		highest[lane][it.sender] = it.number
	}
}

func (s *selectStorm) round(r *random) int64 {
	var sender *item
	select {
	case sender = <-s.senders:
	default:
		sender = <-s.senders
	}
	defer func() { s.senders <- sender }()
	count := 1 + r.below(16)
	for range count {
		sender.number++
		one, other := s.lanes[r.below(4)], s.lanes[r.below(4)]
		if s.broken || r.below(2) == 0 {
			select {
			case one <- *sender:
				continue
			default:
				if s.broken {
					continue
				}
			}
		}
		select {
		case one <- *sender:
		case other <- *sender:
		}
	}
	return int64(count)
}

func (s *selectStorm) total() int64 {
	for _, lane := range s.lanes {
		for len(lane) > 0 {
			runtime.Gosched()
		}
	}
	close(s.quit)
	s.receiver.Wait()
	return s.received
}
