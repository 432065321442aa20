package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// mutexStorm: counters that are guarded by sync.Mutex. At most one goroutine holds it; no increment is lost.
// The bug: no lock.
type mutexStorm struct {
	broken  bool
	guarded [8]struct {
		sync.Mutex
		inside int // how many goroutines hold the lock, by their own count
		count  int64
		noise  uint64
	}
}

func newMutex(broken bool) storm { return &mutexStorm{broken: broken} }

func (m *mutexStorm) round(r *random) int64 {
	place := r.below(len(m.guarded))
	g := &m.guarded[place]
	if m.broken {
		before := g.count
		g.noise += r.spin(50)
		if r.below(64) == 0 {
			runtime.Gosched()
		}
		g.count = before + 1
		return 1
	}
	if r.below(8) == 0 {
		for !g.TryLock() {
			runtime.Gosched()
		}
	} else {
		g.Lock()
	}
	defer g.Unlock()
	g.inside++
	g.count++
	g.noise += r.spin(50)
	switch r.below(2048) {
	case 0:
		time.Sleep(1500 * time.Microsecond) // a goroutine that waits so long is handed the lock (starvation mode)
	case 1, 2, 3, 4, 5, 6, 7, 8:
		runtime.Gosched()
	}
	if g.inside != 1 {
		failf("%d are inside one sync.Mutex at the same time", g.inside)
	}
	g.inside--
	if next := place + 1; next < len(m.guarded) && r.below(16) == 0 { // two locks at once, always in the same order
		other := &m.guarded[next]
		other.Lock()
		defer other.Unlock()
		other.inside++
		other.count++
		if other.inside != 1 {
			failf("%d are inside one sync.Mutex at the same time", other.inside)
		}
		other.inside--
		return 2
	}
	return 1
}

func (m *mutexStorm) total() (sum int64) {
	for i := range m.guarded {
		sum += m.guarded[i].count
	}
	return sum
}

// rwMutexStorm: words that are all written together. A reader finds them all equal, and none older than the last write
// that was over when it began. The bug: writers take the read lock.
type rwMutexStorm struct {
	broken bool
	lock   sync.RWMutex
	words  [16]int64 // all equal: the number of writes
	latest atomic.Int64
}

func newRWMutex(broken bool) storm { return &rwMutexStorm{broken: broken} }

func (m *rwMutexStorm) round(r *random) int64 {
	if r.below(6) == 0 {
		m.write(r)
		return 1
	}
	least := m.latest.Load()
	if r.below(8) == 0 {
		for !m.lock.TryRLock() {
			runtime.Gosched()
		}
	} else {
		m.lock.RLock()
	}
	defer m.lock.RUnlock()
	first := m.words[0]
	if first < least {
		failf("a reader of a sync.RWMutex finds write %d, though write %d was over before it began", first, least)
	}
	for looks := range 2 {
		for i, word := range m.words {
			if word != first {
				failf("a reader of a sync.RWMutex sees a half-made write: word 0 is %d, word %d is %d", first, i, word)
				return 0
			}
		}
		if looks == 0 && r.below(64) == 0 {
			runtime.Gosched()
		}
	}
	return 0
}

func (m *rwMutexStorm) write(r *random) {
	lock, unlock := m.lock.Lock, m.lock.Unlock
	if m.broken {
		lock, unlock = m.lock.RLock, m.lock.RUnlock
	}
	lock()
	defer unlock()
	next := m.words[0] + 1
	pause := r.below(256)
	for i := range m.words {
		m.words[i] = next
		if i == pause {
			runtime.Gosched()
		}
	}
	m.latest.Store(next)
}

func (m *rwMutexStorm) total() int64 { return m.words[0] }
