package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// litmusStorm: two goroutines that meet over and over, and do a few loads and stores at the same moment. Go's memory
// model (https://go.dev/ref/mem) says which results are allowed:
//
//	message passing   data = 1; flag.Store(1)  ║  flag.Load() == 1, then data == 1
//	store buffering   x.Store(1); y.Load()     ║  y.Store(1); x.Load(): not both 0
//	load buffering    x.Load(); y.Store(1)     ║  y.Load(); x.Store(1): not both 1
//
// The bug: store buffering uses plain variables, whose stores wait in a processor's buffer.
type litmusStorm struct {
	broken bool
	meets  atomic.Int64
}

const meetings = 256

func newLitmus(broken bool) storm { return &litmusStorm{broken: broken} }

// A meeting has what two goroutines do at the same moment; each word has its own cache line.
type meeting struct {
	x, y, flag atomic.Uint32
	_          [52]byte
	plainX     uint32
	_          [60]byte
	plainY     uint32
	_          [60]byte
	data       uint32
	seen       [2]uint32
}

// meet runs both sides in step.
func meet(each func(side, place int)) {
	var at [2]struct {
		atomic.Int32
		_ [60]byte
	}
	side := func(own int) {
		for place := range meetings {
			at[own].Store(int32(place + 1))
			for spins := 0; at[1-own].Load() <= int32(place); spins++ {
				if spins%1000 == 999 {
					runtime.Gosched()
				}
			}
			each(own, place)
		}
	}
	var other sync.WaitGroup
	other.Go(func() { side(1) })
	side(0)
	other.Wait()
}

func (l *litmusStorm) round(r *random) int64 {
	all := make([]meeting, meetings)
	switch kind := r.below(3); {
	case kind == 0 || l.broken:
		meet(func(side, place int) { l.storeBuffering(&all[place], side) })
		for place := range all {
			if all[place].seen == [2]uint32{0, 0} {
				failf("store buffering: both have stored, and neither sees the other's store")
			}
		}
	case kind == 1:
		meet(func(side, place int) { messagePassing(&all[place], side) })
	default:
		meet(func(side, place int) { loadBuffering(&all[place], side) })
		for place := range all {
			if all[place].seen == [2]uint32{1, 1} {
				failf("load buffering: both have seen what the other stored after its own load")
			}
		}
	}
	l.meets.Add(meetings)
	return meetings
}

func (l *litmusStorm) storeBuffering(m *meeting, side int) {
	switch {
	case l.broken && side == 0:
		m.plainX = 1
		m.seen[0] = m.plainY
	case l.broken:
		m.plainY = 1
		m.seen[1] = m.plainX
	case side == 0:
		m.x.Store(1)
		m.seen[0] = m.y.Load()
	default:
		m.y.Store(1)
		m.seen[1] = m.x.Load()
	}
}

func messagePassing(m *meeting, side int) {
	if side == 0 {
		m.data = 1
		m.flag.Store(1)
	} else if m.flag.Load() == 1 && m.data != 1 {
		failf("message passing: the flag is there, and what was stored before it is not")
	}
}

func loadBuffering(m *meeting, side int) {
	if side == 0 {
		m.seen[0] = m.x.Load()
		m.y.Store(1)
	} else {
		m.seen[1] = m.y.Load()
		m.x.Store(1)
	}
}

func (l *litmusStorm) total() int64 { return l.meets.Load() }
