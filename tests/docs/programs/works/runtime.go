package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// depth recurses so often, in frames of some 100 bytes.
func depth(n int) int {
	if n == 0 {
		return 0
	}
	return depth(n-1) + 1
}

func init() {
	add(map[string]program{
		"goos":  func(string) (any, error) { return runtime.GOOS + "/" + runtime.GOARCH, nil },
		"procs": func(string) (any, error) { return runtime.GOMAXPROCS(0) == runtime.NumCPU(), nil },
		"set-procs": func(string) (any, error) {
			runtime.GOMAXPROCS(1)
			return runtime.GOMAXPROCS(2), nil
		},
		"parallel": func(string) (any, error) {
			// Each of two goroutines spins until the other has begun, so both must run at the same time.
			runtime.GOMAXPROCS(2)
			var begun atomic.Int32
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					for begun.Add(1); begun.Load() < 2; {
					}
				})
			}
			both.Wait()
			return "", nil
		},
		"spin": func(string) (any, error) {
			// A loop without a call does not keep other goroutines, or the collector, from running.
			runtime.GOMAXPROCS(1)
			var stop atomic.Bool
			go func() { time.Sleep(time.Millisecond); runtime.GC(); stop.Store(true) }()
			for !stop.Load() {
			}
			return "", nil
		},
		"lock-os-thread": func(string) (any, error) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			runtime.Gosched()
			return "", nil
		},
		"int":       func(string) (any, error) { return 32 << (^uint(0) >> 63), nil },
		"four-gib":  func(string) (any, error) { return len(make([]byte, 4<<30)), nil },
		"one-gib":   func(string) (any, error) { return len(make([]byte, 1<<30)), nil },
		"deep":      func(string) (any, error) { return depth(500_000), nil },
		"too-deep":  func(string) (any, error) { return depth(5_000_000), nil },
		"max-stack": func(string) (any, error) { debug.SetMaxStack(1 << 30); return depth(5_000_000), nil },
		"memory-limit": func(string) (any, error) {
			debug.SetMemoryLimit(100 << 20)
			return debug.SetMemoryLimit(-1), nil
		},
		"gc-percent": func(string) (any, error) {
			debug.SetGCPercent(50)
			return debug.SetGCPercent(100), nil
		},
		"recover": func(string) (found any, err error) {
			defer func() { found = recover() }()
			var p *int
			return *p, nil
		},
		"stack":      func(string) (any, error) { return strings.Contains(string(debug.Stack()), "runtime.go"), nil },
		"build-info": func(string) (any, error) { _, ok := debug.ReadBuildInfo(); return ok, nil },
		"cpu-profile": func(string) (any, error) {
			var profile bytes.Buffer
			if err := pprof.StartCPUProfile(&profile); err != nil {
				return nil, err
			}
			for begin := time.Now(); time.Since(begin) < 200*time.Millisecond; {
				depth(1000)
			}
			pprof.StopCPUProfile()
			unpacked, err := gzip.NewReader(&profile)
			if err != nil {
				return nil, err
			}
			content, err := io.ReadAll(unpacked)
			if err == nil && !bytes.Contains(content, []byte("main.depth")) {
				err = errors.New("the profile is empty")
			}
			return "", err
		},
		"heap-profile": func(string) (any, error) {
			runtime.MemProfileRate = 1
			block := make([]byte, 1<<20)
			runtime.GC()
			var profile bytes.Buffer
			err := pprof.WriteHeapProfile(&profile)
			runtime.KeepAlive(block)
			return profile.Len() > 100, err
		},
		"goroutine-profile": func(string) (any, error) {
			var profile bytes.Buffer
			err := pprof.Lookup("goroutine").WriteTo(&profile, 1)
			return strings.Contains(profile.String(), "runtime.go"), err
		},
		"mutex-profile": func(string) (any, error) {
			runtime.SetMutexProfileFraction(1)
			var lock sync.Mutex
			lock.Lock()
			var done sync.WaitGroup
			done.Go(func() { lock.Lock(); lock.Unlock() })
			time.Sleep(10 * time.Millisecond)
			lock.Unlock()
			done.Wait()
			return pprof.Lookup("mutex").Count() > 0, nil
		},
		"trace": func(string) (any, error) {
			var written bytes.Buffer
			if err := trace.Start(&written); err != nil {
				return nil, err
			}
			trace.Stop()
			return written.Len() > 0, nil
		},
		"metrics": func(string) (any, error) {
			sample := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}}
			metrics.Read(sample)
			return sample[0].Value.Uint64() > 0, nil
		},
		"timer": func(string) (any, error) {
			begin := time.Now()
			time.Sleep(20 * time.Millisecond)
			return time.Since(begin) >= 20*time.Millisecond, nil
		},
		"local":        func(string) (any, error) { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).Local().Hour(), nil },
		"zone-mounted": func(string) (any, error) { return time.LoadLocation("Europe/Berlin") },
		"zone": func(string) (any, error) {
			zone, err := time.LoadLocation("Europe/Berlin")
			return zone, err
		},
	})
}
