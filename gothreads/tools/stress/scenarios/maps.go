package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// mapStorm: maps that are guarded by locks; all goroutines add to them and delete from them. The bug: no lock, which
// Go's own checks find, as well as the count.
type mapStorm struct {
	broken bool
	shards [4]struct {
		sync.Mutex
		values       map[int64]int64
		sum, removed int64
	}
}

func newMap(broken bool) storm {
	m := &mapStorm{broken: broken}
	for i := range m.shards {
		m.shards[i].values = map[int64]int64{}
	}
	return m
}

func (m *mapStorm) round(r *random) int64 {
	s := &m.shards[r.below(len(m.shards))]
	if !m.broken {
		s.Lock()
		defer s.Unlock()
	}
	key := int64(r.below(2000))
	switch r.below(256) {
	case 0:
		var sum int64
		for _, value := range s.values {
			sum += value
		}
		if sum != s.sum {
			failf("the values of a locked map add up to %d, and %d were added", sum, s.sum)
		}
	case 1:
		clear(s.values)
		s.removed += s.sum
		s.sum = 0
	case 2, 3, 4, 5, 6, 7, 8, 9:
		s.removed += s.values[key]
		s.sum -= s.values[key]
		delete(s.values, key)
	}
	s.values[key]++
	s.sum++
	return 1
}

func (m *mapStorm) total() (sum int64) {
	for i := range m.shards {
		for _, value := range m.shards[i].values {
			sum += value
		}
		sum += m.shards[i].removed
	}
	return sum
}

// syncMapStorm: a sync.Map whose values are incremented by CompareAndSwap, and taken out.
// The bug: loading and storing instead.
type syncMapStorm struct {
	broken  bool
	values  sync.Map // from int to int64, never 0
	removed atomic.Int64
}

func newSyncMap(broken bool) storm { return &syncMapStorm{broken: broken} }

func (m *syncMapStorm) round(r *random) int64 {
	key := r.below(300)
	switch r.below(64) {
	case 0:
		if value, loaded := m.values.LoadAndDelete(key); loaded {
			m.removed.Add(value.(int64))
		}
		return 0
	case 1:
		m.values.Range(func(key, value any) bool {
			if k, v := key.(int), value.(int64); k < 0 || k >= 300 || v <= 0 {
				failf("a sync.Map has %d for %d", v, k)
			}
			return true
		})
		return 0
	case 2:
		if value, ok := m.values.Load(key); ok && m.values.CompareAndDelete(key, value) {
			m.removed.Add(value.(int64))
		}
		return 0
	}
	for {
		value, loaded := m.values.LoadOrStore(key, int64(1))
		if !loaded {
			return 1
		}
		if m.broken {
			runtime.Gosched()
			m.values.Store(key, value.(int64)+1)
			return 1
		}
		if m.values.CompareAndSwap(key, value, value.(int64)+1) {
			return 1
		}
	}
}

func (m *syncMapStorm) total() int64 {
	sum := m.removed.Load()
	m.values.Range(func(_, value any) bool {
		sum += value.(int64)
		return true
	})
	return sum
}
