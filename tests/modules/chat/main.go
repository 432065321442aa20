// Command chat talks to clients that send while they are answered.
package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

var running, read atomic.Int64

// Running returns how many iterators have not ended.
//
//go:wasmexport running
func Running() int64 { return running.Load() }

// Read returns how many bytes have been read.
//
//go:wasmexport read
func Read() int64 { return read.Load() }

// Shout answers each line, and at the end with all of them.
//
//gothreads:export
func Shout(r io.Reader, greeting string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		running.Add(1)
		defer running.Add(-1)
		if !yield(greeting, nil) {
			return
		}
		var all []string
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if lines.Text() == "fail" {
				yield("", errors.New("as asked"))
				return
			}
			all = append(all, lines.Text())
			if !yield(strings.ToUpper(lines.Text()), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield("", err)
			return
		}
		yield(strings.Join(all, ","), nil)
	}
}

// Total reads all bytes.
//
//gothreads:export
func Total(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// Slow reads ten bytes at a time, with pauses, and never answers before the end.
//
//gothreads:export
func Slow(r io.Reader) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		running.Add(1)
		defer running.Add(-1)
		if !yield(0) {
			return
		}
		buf := make([]byte, 10)
		for {
			n, err := r.Read(buf)
			read.Add(int64(n))
			if err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Deaf never reads, and says something for ever.
//
//gothreads:export
func Deaf(ctx context.Context, r io.Reader, size int, pause bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		running.Add(1)
		defer running.Add(-1)
		for text := strings.Repeat("x", size); yield(text); {
			read.Add(1)
			if pause {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Hour):
				}
			}
		}
	}
}

// Mute neither reads nor answers.
//
//gothreads:export
func Mute(ctx context.Context, r io.Reader) {
	running.Add(1)
	defer running.Add(-1)
	<-ctx.Done()
}

// Count has no body to read.
//
//gothreads:export
func Count(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		running.Add(1)
		defer running.Add(-1)
		for i := 0; i < n && yield(i); i++ {
		}
	}
}

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

func init() {
	guest.Handle("upper", func(p []byte) ([]byte, error) { return []byte(strings.ToUpper(string(p))), nil })
}

func main() { select {} }
