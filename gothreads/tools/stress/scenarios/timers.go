package main

import (
	"context"
	"sync/atomic"
	"time"
)

// timerses: timers of every kind. None fires early, none is lost, none fires twice; what Stop and Reset have stopped does not
// fire. The bug: what Stop answers is not looked at.
type timerses struct {
	broken bool
	set    atomic.Int64 // timers that will fire
	fired  atomic.Int64
}

func newTimers(broken bool) storm { return &timerses{broken: broken} }

func (t *timerses) round(r *random) int64 {
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
			failf("a context that is out of time says %v", ctx.Err())
		}
		cancel()
	case 6: // nobody waits for it here
		t.set.Add(1)
		time.AfterFunc(d, func() {
			early("time.AfterFunc", d)
			t.fired.Add(1)
		})
		return 1
	default: // timers by the hundred, in any order
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

// stopped: what Stop answers is whether the function does not run.
func (t *timerses) stopped(r *random, d time.Duration) int64 {
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

// reset: a channel's timer that is set again has nothing of the last time, and does not fire before its new time.
func (t *timerses) reset(r *random, d time.Duration) int64 {
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

// ticks: a ticker's ticks are never early. (That their times rise is not promised: each is taken a moment after it was due.)
func (t *timerses) ticks(period time.Duration) {
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

// total waits until all that were set have fired: for a minute, which is much more than the longest of them.
func (t *timerses) total() int64 {
	for deadline := time.Now().Add(time.Minute); t.fired.Load() < t.set.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if fired, set := t.fired.Load(), t.set.Load(); fired < set {
		failf("%d timers were set, and %d have fired", set, fired)
	}
	return t.fired.Load()
}
