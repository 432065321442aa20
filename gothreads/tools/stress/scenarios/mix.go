package main

// mixStorm: all storms that do not wait for time, at once. The bug is that of mutexStorm.
type mixStorm []storm

func newMix(broken bool) storm {
	m := mixStorm{newMutex(broken)}
	for _, make := range []func(bool) storm{newAtomics, newChannels, newCond, newGarbage, newGoroutines, newMap, newPool, newRWMutex, newSelect, newStacks,
		newSyncMap} {
		m = append(m, make(false))
	}
	return m
}

func (m mixStorm) round(r *random) int64 { return m[r.below(len(m))].round(r) }

func (m mixStorm) total() (sum int64) {
	for _, s := range m {
		sum += s.total()
	}
	return sum
}
