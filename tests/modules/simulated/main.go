// What simulated runs are tested with: tests/runtime/test_simulation.py.
package main

import (
	"context"
	crypto "crypto/rand"
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	map[string]func(){"mix": mix, "once": once, "locks": locks, "spin": spin, "day": day, "ever": ever}[os.Args[1]]()
}

// mix: whatever could make two runs differ.
func mix() {
	began := time.Now()
	fmt.Println("begin", began.UTC(), os.Getpid())
	var wg sync.WaitGroup
	var mu sync.RWMutex
	var late atomic.Int64
	seen := map[string]int{}
	results := make(chan string)
	for i := range 300 { // more than a P's queue holds
		wg.Go(func() {
			for j := range 5 {
				switch rand.Intn(4) {
				case 0:
					time.Sleep(time.Duration(rand.Intn(1000)) * time.Millisecond)
				case 1:
					mu.Lock()
					seen[fmt.Sprint(rand.Intn(10))]++
					mu.Unlock()
				case 2:
					select {
					case results <- fmt.Sprint(i, " ", j):
					case <-time.After(time.Duration(rand.Intn(50)) * time.Millisecond):
						late.Add(1)
					}
				case 3:
					_ = make([]byte, 100_000) // the collector runs, too
					runtime.Gosched()
				}
			}
		})
	}
	done := make(chan bool)
	go func() { wg.Wait(); close(done) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	for running := true; running; {
		select {
		case result := <-results:
			fmt.Println(result)
		case <-tick.C:
			fmt.Fprintln(os.Stderr, "tick", time.Since(began))
		case <-done:
			running = false
		}
	}
	mu.RLock()
	for key, count := range seen {
		fmt.Print(key, "=", count, " ")
	}
	mu.RUnlock()
	random := make([]byte, 8)
	crypto.Read(random)
	fmt.Printf("\n%d late, %x\n", late.Load(), random)
	<-ctx.Done()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	fmt.Println(ctx.Err(), time.Since(began), memory.NumGC > 0, memory.TotalAlloc)
}

// once: two goroutines look whether a value is there, and then make it.
func once() {
	var mu sync.Mutex
	var wg sync.WaitGroup
	values, made := map[string]int{}, 0
	for range 2 {
		wg.Go(func() {
			mu.Lock()
			_, there := values["a"]
			mu.Unlock()
			if !there {
				mu.Lock()
				made++
				values["a"] = 1
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if made != 1 {
		fmt.Println("made", made, "times")
		os.Exit(1)
	}
}

// locks: two goroutines take the same locks in a different order.
func locks() {
	var a, b sync.Mutex
	var wg sync.WaitGroup
	both := func(first, second *sync.Mutex) {
		first.Lock()
		second.Lock()
		second.Unlock()
		first.Unlock()
	}
	wg.Go(func() { both(&a, &b) })
	wg.Go(func() { both(&b, &a) })
	wg.Wait()
}

// spin: ends when another goroutine runs meanwhile.
func spin() {
	var done atomic.Bool
	go done.Store(true)
	for !done.Load() {
	}
}

func day() {
	began := time.Now()
	time.Sleep(24 * time.Hour)
	fmt.Println(time.Since(began) >= 24*time.Hour, began.UTC().Format(time.DateOnly))
}

func ever() {
	fmt.Println("begins")
	for {
		time.Sleep(time.Hour)
	}
}
