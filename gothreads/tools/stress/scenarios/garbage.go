package main

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
	"weak"
)

// A node is an object whose content shows whether it is still intact.
type node struct {
	seed  uint64
	words []uint64
	next  *node
	text  string
}

func newNode(seed uint64, next *node) *node {
	r := random(seed)
	n := &node{seed: seed, words: make([]uint64, 1+r.below(100)), next: next}
	for i := range n.words {
		n.words[i] = seed + uint64(i)
	}
	letters := make([]byte, r.below(200))
	for i := range letters {
		letters[i] = byte('a' + seed%26)
	}
	n.text = string(letters)
	return n
}

func (n *node) check() {
	for ; n != nil; n = n.next {
		r := random(n.seed)
		if len(n.words) != 1+r.below(100) || len(n.text) != r.below(200) {
			failf("an object on the heap is no longer what it was: %d words and %d letters for seed %#x", len(n.words), len(n.text), n.seed)
			return
		}
		for i, word := range n.words {
			if word != n.seed+uint64(i) {
				failf("an object on the heap is no longer what it was: word %d is %#x, not %#x", i, word, n.seed+uint64(i))
				return
			}
		}
		for _, letter := range []byte(n.text) {
			if letter != byte('a'+n.seed%26) {
				failf("an object on the heap is no longer what it was: a letter is %#x, not %#x", letter, 'a'+n.seed%26)
				return
			}
		}
	}
}

// garbageStorm: objects that are kept for a while in shared slots, and then dropped. While an object is in use, it is
// unchanged, and its weak pointer finds it; when it is no longer in use, its finalizer and its cleanup run, once each.
// The bug: some slots hold the object's address as a number, which does not keep it alive.
type garbageStorm struct {
	broken               bool
	slots                [256]atomic.Pointer[node]
	weaks                [256]atomic.Pointer[weak.Pointer[node]]
	numbers              [64]uintptr
	made                 atomic.Int64
	watched              atomic.Int64 // objects with a finalizer and a cleanup
	finalized, cleanedUp atomic.Int64
}

func newGarbage(broken bool) storm { return &garbageStorm{broken: broken} }

func (g *garbageStorm) round(r *random) int64 {
	n := newNode(r.next(), nil)
	for range r.below(8) {
		n = newNode(r.next(), n)
	}
	g.made.Add(1)
	place := r.below(len(g.slots))
	if r.below(4) == 0 {
		g.watch(n)
		pointer := weak.Make(n)
		if pointer.Value() != n || weak.Make(n) != pointer {
			failf("a weak pointer does not find its object, which is in use")
		}
		g.weaks[place].Store(&pointer)
	}
	old := g.slots[place].Swap(n)
	old.check()
	if pointer := g.weaks[r.below(len(g.weaks))].Load(); pointer != nil {
		pointer.Value().check() // nil, or whole
	}
	g.slots[r.below(len(g.slots))].Load().check()
	if g.broken {
		number := &g.numbers[r.below(len(g.numbers))]
		if *number != 0 {
			(*node)(unsafe.Pointer(*number)).check()
		}
		*number = uintptr(unsafe.Pointer(newNode(r.next(), nil)))
	}
	n.check()
	return 1
}

// watch sets a finalizer and a cleanup. The finalizer sees the object intact.
func (g *garbageStorm) watch(n *node) {
	g.watched.Add(1)
	runtime.SetFinalizer(n, func(n *node) {
		n.check()
		g.finalized.Add(1)
	})
	runtime.AddCleanup(n, func(seed uint64) { g.cleanedUp.Add(1) }, n.seed)
}

// total drops all objects, and waits until every finalizer and cleanup has run.
func (g *garbageStorm) total() int64 {
	for i := range g.slots {
		g.slots[i].Swap(nil).check()
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		runtime.GC()
		if g.finalized.Load() >= g.watched.Load() && g.cleanedUp.Load() >= g.watched.Load() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	runtime.GC()
	if watched, finalized, cleaned := g.watched.Load(), g.finalized.Load(), g.cleanedUp.Load(); finalized != watched || cleaned != watched {
		failf("%d objects with a finalizer and a cleanup were dropped: %d finalizers and %d cleanups have run", watched, finalized, cleaned)
	}
	for i := range g.weaks {
		if pointer := g.weaks[i].Load(); pointer != nil && pointer.Value() != nil {
			failf("a weak pointer finds an object that was finalized")
		}
	}
	return g.made.Load()
}
