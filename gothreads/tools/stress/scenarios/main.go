// Command scenarios is the program that `gothreads stress` runs: work that many threads and goroutines do at the same
// time on shared state, and that can be counted to the last unit afterwards.
//
// Each kind of work is a storm. The host begins one, calls work from many threads while goroutines do the same, ends
// it, and compares how much all of them have put into the state with what it has. The first error inside is recorded by
// failf; from then on every answer is -1.
package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"gothreads/guest"
)

// A storm is one kind of work. If it is made broken, it has a bug, which the host must find.
type storm interface {
	// round does one piece of the work, and returns how many units that has put into the state. Any number may run at
	// the same time.
	round(r *random) int64
	// total returns how many units the state has. No round may run.
	total() int64
}

var storms = map[string]func(broken bool) storm{
	"atomics":    newAtomics,
	"channels":   newChannels,
	"cond":       newCond,
	"gc":         newGarbage,
	"goroutines": newGoroutines,
	"litmus":     newLitmus,
	"map":        newMap,
	"mix":        newMix,
	"mutex":      newMutex,
	"pool":       newPool,
	"rwmutex":    newRWMutex,
	"select":     newSelect,
	"stacks":     newStacks,
	"syncmap":    newSyncMap,
	"timers":     newTimers,
}

var (
	failure atomic.Pointer[string]
	current storm
	begun   sync.WaitGroup // the goroutines that do rounds
	over    atomic.Bool    // tells them to end
	units   atomic.Int64   // what they have put into the state
	rounds  atomic.Int64   // how many rounds they have done
)

// failf records the first error.
func failf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	failure.CompareAndSwap(nil, &text)
}

func failed() bool { return failure.Load() != nil }

func init() {
	guest.Handle("failure", func([]byte) ([]byte, error) {
		if text := failure.Load(); text != nil {
			return []byte(*text), nil
		}
		return nil, nil
	})
}

// begin makes a storm, and lets goroutines work until finish. Once in an app's life.
//
//go:wasmexport begin
func begin(name string, goroutines int32, seed uint64, broken bool) {
	current = storms[name](broken)
	for place := range goroutines {
		r := random(seed + uint64(place)*0x9e3779b97f4a7c15)
		begun.Go(func() {
			for !over.Load() && !failed() {
				units.Add(current.round(&r))
				rounds.Add(1)
				if r.below(4) == 0 {
					runtime.Gosched()
				}
			}
		})
	}
}

// work does rounds on the caller's own goroutine. It returns how many units they have put into the state.
//
//go:wasmexport work
func work(seed uint64, count int32) int64 {
	r, done := random(seed), int64(0)
	for range count {
		done += current.round(&r)
		if failed() {
			return -1
		}
	}
	return done
}

// finish ends the goroutines. It returns how many units they have put into the state.
//
//go:wasmexport finish
func finish() int64 {
	over.Store(true)
	begun.Wait()
	return units.Load()
}

// total returns how many units the state has.
//
//go:wasmexport total
func total() int64 {
	count := current.total()
	if failed() {
		return -1
	}
	return count
}

// progress returns how many rounds the goroutines have done.
//
//go:wasmexport progress
func progress() int64 { return rounds.Load() }

// procs sets GOMAXPROCS, and returns the previous setting.
//
//go:wasmexport procs
func procs(n int32) int32 { return int32(runtime.GOMAXPROCS(int(n))) }

//go:wasmexport collect
func collect() { runtime.GC() }

func main() { select {} }
