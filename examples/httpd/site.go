package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxBody   = 16 << 20  // bytes, of an echo's body
	maxChunks = 1_000_000 // of a stream
	maxPause  = 3_600_000 // milliseconds
	maxPrimes = 1_000_000 // below which primes are counted
)

// A site is the server's handler.
type site struct {
	routes   *http.ServeMux
	inFlight atomic.Int64
	served   atomic.Int64
	quit     func()
	quitting chan struct{} // closed when the server is asked to quit
}

func newSite() *site {
	s := &site{routes: http.NewServeMux(), quitting: make(chan struct{})}
	s.quit = sync.OnceFunc(func() { close(s.quitting) })
	s.routes.HandleFunc("GET /{$}", s.hello)
	s.routes.HandleFunc("GET /json", s.json)
	s.routes.HandleFunc("GET /primes", s.primes)
	s.routes.HandleFunc("POST /echo", s.echo)
	s.routes.HandleFunc("GET /stream", s.stream)
	s.routes.HandleFunc("GET /sleep", s.sleep)
	s.routes.HandleFunc("GET /stats", s.stats)
	s.routes.HandleFunc("POST /quit", s.stop)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.inFlight.Add(1)
	defer func() {
		s.inFlight.Add(-1)
		s.served.Add(1)
	}()
	s.routes.ServeHTTP(w, r)
}

func (s *site) hello(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "Hello from Go.\n")
}

func (s *site) json(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("name")
	if name == "" {
		name = "nobody"
	}
	writeJSON(w, struct {
		Name     string `json:"name"`
		Greeting string `json:"greeting"`
		Letters  int    `json:"letters"`
	}{name, "Hello, " + name + ".", len([]rune(name))})
}

// primes counts the primes below `below` (default 20,000, which takes about a millisecond), by trial division.
func (s *site) primes(w http.ResponseWriter, r *http.Request) {
	below, ok := number(w, r, "below", 20_000, maxPrimes)
	if !ok {
		return
	}
	count := 0
	for n := 2; n < below; n++ {
		if isPrime(n) {
			count++
		}
	}
	fmt.Fprintf(w, "%d primes below %d\n", count, below)
}

func isPrime(n int) bool {
	for divisor := 2; divisor*divisor <= n; divisor++ {
		if n%divisor == 0 {
			return false
		}
	}
	return true
}

// echo reads the whole body before it answers, as most clients read only when they have sent everything.
func (s *site) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // the client has gone
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(body)
}

// stream sends `chunks` chunks (default 10), flushing each, with pauses of `ms` milliseconds (default 100) in between.
func (s *site) stream(w http.ResponseWriter, r *http.Request) {
	chunks, ok := number(w, r, "chunks", 10, maxChunks)
	if !ok {
		return
	}
	ms, ok := number(w, r, "ms", 100, maxPause)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	control := http.NewResponseController(w)
	for n := 1; n <= chunks; n++ {
		if n > 1 && !pause(r.Context(), ms) {
			return
		}
		fmt.Fprintf(w, "chunk %d of %d\n", n, chunks)
		if control.Flush() != nil {
			return
		}
	}
}

// sleep answers after `ms` milliseconds (default 1000).
func (s *site) sleep(w http.ResponseWriter, r *http.Request) {
	if ms, ok := number(w, r, "ms", 1000, maxPause); ok && pause(r.Context(), ms) {
		fmt.Fprintf(w, "slept for %d ms\n", ms)
	}
}

// stats reports the server's activity, this request included.
func (s *site) stats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		Goroutines int    `json:"goroutines"`
		InFlight   int64  `json:"in_flight"`
		Served     int64  `json:"served"`
		Procs      int    `json:"procs"`
		Go         string `json:"go"`
		Platform   string `json:"platform"`
	}{runtime.NumGoroutine(), s.inFlight.Load(), s.served.Load(), runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
}

func (s *site) stop(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "quitting\n")
	s.quit()
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}

// number returns a number from the query, or its default. If it is invalid, number sends the error, and ok is false.
func number(w http.ResponseWriter, r *http.Request, name string, fallback, most int) (n int, ok bool) {
	text := r.FormValue(name)
	if text == "" {
		return fallback, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		http.Error(w, fmt.Sprintf("%s must be a number from 0 to %d, not %q", name, most, text), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}

// pause waits ms milliseconds and reports whether the client is still connected. If the client disconnects, it returns
// at once.
func pause(ctx context.Context, ms int) bool {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
