package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestMeasure indexes the folder that SEARCHD_MEASURE names, such as $(go env GOROOT)/src, and prints how long that
// took. Queries run meanwhile.
func TestMeasure(t *testing.T) {
	dir := os.Getenv("SEARCHD_MEASURE")
	if dir == "" {
		t.Skip("SEARCHD_MEASURE names no folder")
	}
	ix := newIndex(os.DirFS(dir))
	c := newCrawler(ix)

	done := make(chan struct{})
	during := make(chan []time.Duration)
	go func() { during <- queries(t, ix, done) }()
	first := timed(c.walk)
	close(done)
	report("first walk", first)
	spread("query while indexing", <-during)

	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%-22s %d files, %d words, %d postings\n", "index", ix.documents(), len(ix.terms), postings(ix))
	fmt.Printf("%-22s %d MB from the system, %d MB allocated in all\n", "memory", m.Sys>>20, m.TotalAlloc>>20)
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Printf("%-22s %d MB\n", "live heap", m.HeapAlloc>>20)

	report("walk without change", timed(c.walk))
	done = make(chan struct{})
	time.AfterFunc(time.Second, func() { close(done) })
	spread("query at rest", queries(t, ix, done))
}

// queries sends queries until done is closed, and returns how long each answer took.
func queries(t *testing.T, ix *index, done <-chan struct{}) []time.Duration {
	payloads := []string{`{"query":"context deadline"}`, `{"query":"func"}`, `{"query":"the of package"}`}
	var took []time.Duration
	for i := 0; ; i++ {
		select {
		case <-done:
			return took
		case <-time.After(time.Millisecond):
		}
		took = append(took, timed(func() {
			if _, err := ix.answer([]byte(payloads[i%len(payloads)])); err != nil {
				t.Error(err)
			}
		}))
	}
}

func postings(ix *index) int {
	n := 0
	for _, term := range ix.terms {
		n += len(term.postings)
	}
	return n
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func report(what string, d time.Duration) {
	fmt.Printf("%-22s %v\n", what, d.Round(10*time.Microsecond))
}

func spread(what string, took []time.Duration) {
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("%-22s %d times: median %v, 99%% %v, longest %v\n", what, len(took), at(0.5), at(0.99), at(1))
}
