package main

import (
	"runtime"
	"sync/atomic"
)

// atomicStorm: counters that all goroutines add to in every way that sync/atomic has, a slot through which each number
// goes once, words that must never be seen half written, and values that are published. The bug: loading and storing
// instead of adding.
type atomicStorm struct {
	broken   bool
	int32s   atomic.Int32
	uint32s  atomic.Uint32
	int64s   atomic.Int64
	uint64s  atomic.Uint64
	uintptrs atomic.Uintptr
	swapped  atomic.Int64 // a number, which the next swap takes out
	put, got atomic.Int64 // the sums of the numbers put into swapped, and taken out
	bits     atomic.Uint32
	halves   atomic.Uint64 // both halves are equal
	latest   atomic.Pointer[published]
	value    atomic.Value // a published value
}

// A published value is consistent only as a whole.
type published struct{ number, square, sum uint64 }

func publish(n uint64) published { return published{n, n * n, n + n*n} }

func (p published) check() {
	if p.square != p.number*p.number || p.sum != p.number+p.square {
		failf("a value is published before it is made: %+v", p)
	}
}

func newAtomics(broken bool) storm {
	a := &atomicStorm{broken: broken}
	first := publish(0)
	a.latest.Store(&first)
	a.value.Store(first)
	return a
}

func (a *atomicStorm) round(r *random) int64 {
	switch r.below(12) {
	case 0:
		if a.broken {
			before := a.int32s.Load()
			if r.below(64) == 0 {
				runtime.Gosched()
			}
			a.int32s.Store(before + 1)
		} else {
			a.int32s.Add(1)
		}
	case 1:
		a.uint32s.Add(1)
	case 2:
		a.uint64s.Add(1)
	case 3:
		a.uintptrs.Add(1)
	case 4:
		for old := a.int64s.Load(); !a.int64s.CompareAndSwap(old, old+1); old = a.int64s.Load() {
		}
	case 5:
		for old := a.uint32s.Load(); !a.uint32s.CompareAndSwap(old, old+1); old = a.uint32s.Load() {
		}
	case 6:
		n := int64(r.below(1 << 30))
		a.put.Add(n)
		a.got.Add(a.swapped.Swap(n))
		return 0
	case 7:
		a.takeBit(uint32(1) << r.below(32))
		return 0
	case 8:
		half := r.next() >> 32
		a.halves.Store(half<<32 | half)
		return 0
	case 9:
		if whole := a.halves.Load(); whole>>32 != whole&0xffffffff {
			failf("a word of 64 bits is seen half written: %#x", whole)
		}
		return 0
	case 10:
		p := publish(r.next())
		a.latest.Store(&p)
		a.value.Store(p)
		return 0
	default:
		a.latest.Load().check()
		a.value.Load().(published).check()
		return 0
	}
	return 1
}

// takeBit takes a bit as a lock, if it is free, and releases it.
func (a *atomicStorm) takeBit(bit uint32) {
	if a.bits.Or(bit)&bit != 0 {
		return
	}
	runtime.Gosched()
	if a.bits.And(^bit)&bit == 0 {
		failf("bit %#x, which was taken, is gone", bit)
	}
}

func (a *atomicStorm) total() int64 {
	if put, got := a.put.Load(), a.got.Load()+a.swapped.Load(); put != got {
		failf("numbers that add up to %d were swapped in, and %d came out", put, got)
	}
	if bits := a.bits.Load(); bits != 0 {
		failf("bits %#x are taken, and nobody has them", bits)
	}
	return int64(a.int32s.Load()) + int64(a.uint32s.Load()) + a.int64s.Load() + int64(a.uint64s.Load()) + int64(a.uintptrs.Load())
}
