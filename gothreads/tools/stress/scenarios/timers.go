package main

import (
	"context"
	"sync/atomic"
	"time"
)

// timerStorm: timers of every kind. None fires early, none is lost, none fires twice; a timer that Stop or Reset has
// stopped does not fire. The bug: the result of Stop is ignored.
type timerStorm struct {
	broken bool
	set    atomic.Int64 // timers that will fire
	fired  atomic.Int64
}

func newTimers(broken bool) storm { return &timerStorm{broken: broken} }

func (t *timerStorm) round(r *random) int64 {
	d := time.Duration(r.below(3_000_000)) // 3 ms
	begin := time.Now()
	early := func(what string, least time.Duration) {
		if took := time.Since(begin); took < least {
			failf("%s fires after %v, and was set to %v", what, took, least)
		}
	}
	switch r.below(8) {
	case 0:
		time.Sleep(d)
		early("time.Sleep", d)
	case 1:
		fires := <-time.After(d)
		early("time.After", d)
		if fires.Sub(begin) < d {
			failf("time.After sends a time %v after it was set, and was set to %v", fires.Sub(begin), d)
		}
	case 2:
		return t.stopped(r, d)
	case 3:
		return t.reset(r, d)
	case 4:
		t.ticks(d/4 + 1)
	case 5:
		ctx, cancel := context.WithTimeout(context.Background(), d)
		<-ctx.Done()
		early("a context's timeout", d)
		if ctx.Err() != context.DeadlineExceeded {
			failf("a context whose deadline has passed has the error %v", ctx.Err())
		}
		cancel()
	case 6: // does not wait for it
		t.set.Add(1)
		time.AfterFunc(d, func() {
			early("time.AfterFunc", d)
			t.fired.Add(1)
		})
		return 1
	default: // hundreds of timers, in any order
		const many = 100
		done := make(chan struct{}, many)
		for range many {
			d := time.Duration(r.below(3_000_000))
			time.AfterFunc(d, func() {
				early("time.AfterFunc", d)
				done <- struct{}{}
			})
		}
		for range many {
			<-done
		}
	}
	t.set.Add(1)
	t.fired.Add(1)
	return 1
}

// stopped checks that a function does not run if Stop returned true.
func (t *timerStorm) stopped(r *random, d time.Duration) int64 {
	var runs atomic.Int32
	ran := make(chan struct{}, 2)
	timer := time.AfterFunc(d, func() {
		runs.Add(1)
		ran <- struct{}{}
	})
	time.Sleep(time.Duration(r.below(3_000_000)))
	if stopped := timer.Stop(); stopped || t.broken {
		time.Sleep(d)
		if runs.Load() != 0 {
			failf("a timer's function runs, though Stop has stopped it")
		}
	} else {
		<-ran
		if runs.Load() != 1 {
			failf("a timer's function has run %d times", runs.Load())
		}
	}
	t.set.Add(1)
	t.fired.Add(1)
	return 1
}

// reset checks that a channel timer that is reset has no value left from before, and does not fire before its new time.
func (t *timerStorm) reset(r *random, d time.Duration) int64 {
	timer := time.NewTimer(time.Duration(r.below(1_000_000)))
	time.Sleep(time.Duration(r.below(1_000_000)))
	begin := time.Now()
	timer.Reset(d)
	fires := <-timer.C
	if took := time.Since(begin); took < d || fires.Sub(begin) < d {
		failf("a timer that was reset to %v fires after %v", d, took)
	}
	timer.Stop()
	select {
	case <-timer.C:
		failf("a timer fires twice")
	default:
	}
	t.set.Add(1)
	t.fired.Add(1)
	return 1
}

// ticks checks that a ticker's ticks are never early. (Their times need not rise: each is taken a moment after the tick
// was due.)
func (t *timerStorm) ticks(period time.Duration) {
	begin := time.Now()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for n := range 3 {
		tick := <-ticker.C
		if least := time.Duration(n+1) * period; tick.Sub(begin) < least {
			failf("tick %d of a ticker of %v comes after %v", n+1, period, tick.Sub(begin))
		}
	}
}

// total waits until all timers that were set have fired: for up to a minute, much longer than any of them takes.
func (t *timerStorm) total() int64 {
	for deadline := time.Now().Add(time.Minute); t.fired.Load() < t.set.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if fired, set := t.fired.Load(), t.set.Load(); fired < set {
		failf("%d timers were set, and %d have fired", set, fired)
	}
	return t.fired.Load()
}
