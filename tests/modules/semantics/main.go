// Command semantics checks, inside the module, what a port of Go gets wrong first. Each handler is one check: it returns what it
// saw, or an error that says what was wrong.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
	"weak"

	"gothreads/guest"
)

// nanotime is the runtime's monotonic clock.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

// clock reads it for the host, on the M that the caller has.
//
//go:wasmexport clock
func clock() int64 { return nanotime() }

func init() {
	checks := map[string]func() (string, error){
		"monotonic": monotonic, "timers": timers, "timers in order": timersInOrder, "large frames": largeFrames, "range loops": rangeLoops, "reflect loops": reflectLoops,
		"aligned atomics": func() (string, error) { return atomics(0) }, "unaligned atomics": func() (string, error) { return atomics(4) },
		"pool": pool, "finalizers": finalizers, "cleanups": cleanups, "weak": weakPointers, "gomaxprocs": gomaxprocs,
		"goroutines": goroutines, "stacks of all": stacksOfAll, "locked threads": lockedThreads, "stack growth": stackGrowth,
		"goroutine profile": profile("goroutine"), "heap profile": profile("heap"), "trace": traced,
		"cpu profile": cpuProfile,
	}
	for name, check := range checks {
		guest.Handle(name, func([]byte) ([]byte, error) {
			said, err := check()
			return []byte(said), err
		})
	}
	var profiled bytes.Buffer
	guest.Handle("begin cpu profile", func([]byte) ([]byte, error) {
		profiled.Reset()
		return nil, pprof.StartCPUProfile(&profiled)
	})
	guest.Handle("end cpu profile", func([]byte) ([]byte, error) {
		pprof.StopCPUProfile()
		return profiled.Bytes(), nil
	})
	guest.Handle("ticks", func(p []byte) ([]byte, error) { return strconv.AppendInt(nil, ticks.Load(), 10), nil })
	guest.Handle("cpus", func([]byte) ([]byte, error) {
		return fmt.Appendf(nil, "%d %d", runtime.NumCPU(), runtime.GOMAXPROCS(0)), nil
	})
	guest.Handle("recurse", func(p []byte) ([]byte, error) {
		n, err := strconv.Atoi(string(p))
		return strconv.AppendInt(nil, int64(recurse(n)), 10), err
	})
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "tick" {
		for range time.Tick(20 * time.Millisecond) {
			ticks.Add(1)
		}
	}
	select {}
}

var ticks atomic.Int64

// together runs n goroutines and returns the first error.
func together(n int, work func(i int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- work(i) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// collecting runs the garbage collector all the time until stopped.
func collecting() (stop func()) {
	var end atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !end.Load() {
			runtime.GC()
		}
	}()
	return func() { end.Store(true); <-done }
}

// Time must not go backwards from one goroutine to another that hears of it.
func monotonic() (string, error) {
	begin := time.Now()
	var latest atomic.Int64
	var switches atomic.Int64
	err := together(8, func(i int) error {
		for time.Since(begin) < 400*time.Millisecond {
			seen := latest.Load()
			now := int64(time.Since(begin))
			if now < seen {
				return fmt.Errorf("time went back by %d ns", seen-now)
			}
			if latest.CompareAndSwap(seen, now) {
				switches.Add(1)
			}
		}
		return nil
	})
	return fmt.Sprint(switches.Load()), err
}

// timers says how late the median of sixty timers is, in microseconds. The value that a timer sends is when it was due, so the
// clock is read after it is received.
func timers() (string, error) {
	const n = 60
	begin := time.Now()
	late := make([]time.Duration, n)
	err := together(n, func(i int) error {
		due := time.Duration(1+rand.IntN(150)) * time.Millisecond
		timer := time.NewTimer(due - time.Since(begin))
		<-timer.C
		late[i] = time.Since(begin) - due
		if late[i] < 0 {
			return fmt.Errorf("a timer of %v fired %v early", due, -late[i])
		}
		return nil
	})
	slices.Sort(late)
	return fmt.Sprint(late[n/2].Microseconds()), err
}

func timersInOrder() (string, error) {
	fired := make(chan int, 5)
	for i := range 5 {
		time.AfterFunc(time.Duration(5-i)*100*time.Millisecond, func() { fired <- 5 - i })
	}
	for want := 1; want <= 5; want++ {
		if got := <-fired; got != want {
			return "", fmt.Errorf("the timer of %d00 ms fired instead of that of %d00 ms", got, want)
		}
	}
	return "", nil
}

//go:noinline
func framed(depth int, seed byte) (sum int) {
	var frame [70_000]byte
	for i := range frame {
		frame[i] = seed + byte(i)
	}
	if depth > 0 {
		sum = framed(depth-1, seed+1)
	}
	for i := range frame {
		if frame[i] != seed+byte(i) {
			panic("a frame was overwritten")
		}
	}
	return sum + int(frame[len(frame)-1])
}

func largeFrames() (string, error) {
	defer collecting()()
	want := framed(3, 7)
	return "", together(8, func(int) error {
		for range 40 {
			// A goroutine of its own: its stack is small.
			got := make(chan int)
			go func() { got <- framed(3, 7) }()
			if sum := <-got; sum != want {
				return fmt.Errorf("%d instead of %d", sum, want)
			}
		}
		return nil
	})
}

// A range loop keeps its place in a uintptr, which no stack map has, across the loop's check. io.ReadAll, with chunks that
// nothing else refers to while it puts them together, is the case that Go's own tests found.
func rangeLoops() (string, error) {
	defer collecting()()
	want := bytes.Repeat([]byte{0xaa}, 2_000_000)
	return "", together(5, func(int) error {
		for range 4 {
			got, err := io.ReadAll(io.NewSectionReader(bytes.NewReader(want), 0, int64(len(want))))
			if err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("%d bytes were not read as they are: %v", len(got), err)
			}
		}
		return nil
	})
}

// A loop whose check lies in what was inlined from package reflect is stopped like any other.
func reflectLoops() (string, error) {
	v, rounds := reflect.ValueOf(7), make(chan int, 1)
	go func() {
		n := 0
		for n < 3_000_000_000 && v.Kind() != reflect.Pointer {
			n++
		}
		rounds <- n
	}()
	time.Sleep(20 * time.Millisecond)
	runtime.GC()
	select {
	case n := <-rounds:
		return "", fmt.Errorf("the collection waited for the loop to end, after %d rounds", n)
	default:
		return "", nil
	}
}

func atomics(offset uintptr) (said string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	var words [4]uint64
	place := unsafe.Add(unsafe.Pointer(&words[1]), offset)
	counter := (*int64)(place)
	const n = 20_000
	together(8, func(int) error {
		for range n {
			atomic.AddInt64(counter, 1<<31+1)
		}
		return nil
	})
	if got, want := atomic.LoadInt64(counter), int64(8*n*(1<<31+1)); got != want {
		return "", fmt.Errorf("%d instead of %d", got, want)
	}
	atomic.StoreInt64(counter, 5)
	if !atomic.CompareAndSwapInt64(counter, 5, -1) || atomic.SwapInt64(counter, 9) != -1 || atomic.OrInt64(counter, 6) != 9 ||
		atomic.AndInt64(counter, 7) != 15 || atomic.LoadInt64(counter) != 7 {
		return "", errors.New("one of the operations is wrong")
	}
	if words[0] != 0 || words[3] != 0 {
		return "", errors.New("its neighbours were changed")
	}
	return "", nil
}

type buffer struct {
	owner atomic.Int64
	data  [64]int
}

func pool() (string, error) {
	defer collecting()()
	p := sync.Pool{New: func() any { return new(buffer) }}
	return "", together(8, func(i int) error {
		me := int64(i + 1)
		for n := range 5_000 {
			b := p.Get().(*buffer)
			if !b.owner.CompareAndSwap(0, me) {
				return errors.New("two have got the same object from the pool")
			}
			b.data[n%64] = n
			if b.data[n%64] != n || !b.owner.CompareAndSwap(me, 0) {
				return errors.New("somebody else has written to the object")
			}
			p.Put(b)
		}
		return nil
	})
}

// eventually collects until the condition holds.
func eventually(condition func() bool) bool {
	for range 200 {
		runtime.GC()
		if condition() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func finalizers() (string, error) {
	const n = 2_000
	var run atomic.Int64
	err := together(4, func(int) error {
		for i := range n {
			p := &[4]int{i, i, i, i}
			runtime.SetFinalizer(p, func(p *[4]int) {
				if p[0] == i && p[3] == i {
					run.Add(1)
				}
			})
		}
		return nil
	})
	if !eventually(func() bool { return run.Load() >= 4*n-4 }) { // a stack may still hold the last ones
		return "", fmt.Errorf("%d of %d finalizers have run", run.Load(), 4*n)
	}
	if run.Load() > 4*n {
		return "", errors.New("a finalizer has run twice")
	}
	return "", err
}

func cleanups() (string, error) {
	const n = 2_000
	var sum atomic.Int64
	err := together(4, func(int) error {
		for i := range n {
			runtime.AddCleanup(&[4]int{i}, func(v int64) { sum.Add(v) }, int64(1))
		}
		return nil
	})
	if !eventually(func() bool { return sum.Load() >= 4*n-4 }) {
		return "", fmt.Errorf("%d of %d cleanups have run", sum.Load(), 4*n)
	}
	if sum.Load() > 4*n {
		return "", errors.New("a cleanup has run twice")
	}
	return "", err
}

func weakPointers() (string, error) {
	stop := collecting()
	type thing struct{ n, copy int }
	err := together(8, func(int) error {
		for i := range 400 {
			strong := &thing{i, i}
			w := weak.Make(strong)
			if got := w.Value(); got != strong || weak.Make(strong) != w {
				return errors.New("a weak pointer lost what is still there")
			}
			runtime.KeepAlive(strong)
			if got := w.Value(); got != nil && (got.n != i || got.copy != i) {
				return errors.New("a weak pointer gave something else")
			}
		}
		return nil
	})
	stop()
	w := weak.Make(&thing{1, 1})
	if err == nil && !eventually(func() bool { return w.Value() == nil }) {
		err = errors.New("a weak pointer kept its target alive")
	}
	return "", err
}

func gomaxprocs() (string, error) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	var end atomic.Bool
	var sum atomic.Int64
	var wg sync.WaitGroup
	per := make([]int64, 8)
	for i := range per {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !end.Load() {
				b := make([]byte, 100)
				b[i] = 1
				per[i] += int64(b[i])
				sum.Add(1)
			}
		}()
	}
	for n := range 20 {
		want := 1 + n%5
		runtime.GOMAXPROCS(want)
		if got := runtime.GOMAXPROCS(0); got != want {
			return "", fmt.Errorf("GOMAXPROCS is %d instead of %d", got, want)
		}
		time.Sleep(time.Millisecond)
	}
	end.Store(true)
	wg.Wait()
	var total int64
	for _, n := range per {
		total += n
	}
	if total != sum.Load() {
		return "", fmt.Errorf("%d counted instead of %d", sum.Load(), total)
	}
	return "", nil
}

func goroutines() (string, error) {
	const n = 100_000
	release, sums := make(chan struct{}), make(chan int, 64)
	for i := range n {
		go func() {
			<-release
			sums <- i
		}()
	}
	if runtime.NumGoroutine() < n {
		return "", fmt.Errorf("%d goroutines", runtime.NumGoroutine())
	}
	runtime.GC()
	close(release)
	sum := 0
	for range n {
		sum += <-sums
	}
	if sum != n*(n-1)/2 {
		return "", fmt.Errorf("the sum is %d", sum)
	}
	return "", nil
}

func lockedThreads() (string, error) {
	return "", together(20, func(i int) error {
		runtime.LockOSThread()
		if i%2 == 0 {
			defer runtime.UnlockOSThread() // the others end their threads
		}
		time.Sleep(time.Millisecond)
		return nil
	})
}

//go:noinline
func recurse(n int) int {
	if n == 0 {
		return 0
	}
	return recurse(n-1) + 1
}

// Stacks are moved while others point into them through channels and defers.
func stackGrowth() (string, error) {
	defer collecting()()
	return "", together(8, func(int) error {
		for n := range 60 {
			depth := 100 + 13*n
			results := make(chan int)
			go func() {
				var sum int
				defer func() { results <- sum }()
				here := &sum
				*here = recurse(depth)
				for range 3 {
					*here += recurse(depth)
				}
			}()
			if got := <-results; got != 4*depth {
				return fmt.Errorf("%d instead of %d", got, 4*depth)
			}
		}
		return nil
	})
}

func stacksOfAll() (string, error) {
	stop := make(chan struct{})
	defer close(stop)
	for range 5 {
		go waitsHere(stop)
	}
	time.Sleep(10 * time.Millisecond)
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)]), nil
}

func waitsHere(stop chan struct{}) { <-stop }

func profile(name string) func() (string, error) {
	return func() (string, error) {
		stop := make(chan struct{})
		defer close(stop)
		for range 5 {
			go waitsHere(stop)
		}
		kept := allocatesHere()
		runtime.GC()
		var b bytes.Buffer
		err := pprof.Lookup(name).WriteTo(&b, 0)
		runtime.KeepAlive(kept)
		return b.String(), err
	}
}

// cpuProfile profiles two goroutines, with 500 samples for each second of CPU time. Both compute in burns90 nine times
// what they compute in burns10, with a label.
func cpuProfile() (string, error) {
	var b bytes.Buffer
	runtime.SetCPUProfileRate(500) // StartCPUProfile cannot change it, and says so
	if err := pprof.StartCPUProfile(&b); err != nil {
		return "", err
	}
	var wg sync.WaitGroup
	for _, name := range []string{"first", "second"} {
		wg.Go(func() {
			pprof.Do(context.Background(), pprof.Labels("name", name), func(context.Context) {
				for range 200 {
					burns90()
					burns10()
				}
			})
		})
	}
	wg.Wait()
	pprof.StopCPUProfile()
	return b.String(), nil
}

// burns computes for a millisecond or so.
//
//go:wasmexport burns
func burns() { burns10() }

//go:noinline
func burns90() { burnt.Add(sum(9 << 18)) }

//go:noinline
func burns10() { burnt.Add(sum(1 << 18)) }

var burnt atomic.Uint64

//go:noinline
func sum(n uint64) (s uint64) {
	for i := range n {
		s += i * i
	}
	return s
}

//go:noinline
func allocatesHere() [][]byte {
	var kept [][]byte
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	return kept
}

func traced() (string, error) {
	var b bytes.Buffer
	if err := trace.Start(&b); err != nil {
		return "", err
	}
	err := together(4, func(int) error {
		for i := range 200 {
			debug.FreeOSMemory()
			time.Sleep(time.Duration(i%3) * time.Millisecond / 10)
			if i == 20 {
				break
			}
		}
		return nil
	})
	trace.Stop()
	return b.String(), err
}
