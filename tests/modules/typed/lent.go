package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"gothreads/guest"
)

//gothreads:export
func ReadAll(r io.Reader) ([]byte, error) { return io.ReadAll(r) }

// ReadOnce reads once, at most size bytes.
//
//gothreads:export
func ReadOnce(ctx context.Context, r io.Reader, size int) ([]byte, error) {
	p := make([]byte, size)
	n, err := r.Read(p)
	if err == io.EOF {
		err = nil
	}
	return p[:n], err
}

//gothreads:export
func Write(w io.Writer, data []byte) (int, error) { return w.Write(data) }

//gothreads:export
func Copy(w io.Writer, r io.Reader) (int64, error) { return io.Copy(w, r) }

// Transform is a func with a name.
type Transform func(float64) float64

// Apply calls f for each number.
//
//gothreads:export
func Apply(x []float64, f Transform) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = f(x[i])
	}
	return y
}

// Visit calls a callable with a context until it returns false.
//
//gothreads:export
func Visit(ctx context.Context, options []Options, visit func(ctx context.Context, i int, o Options) (bool, error)) (int, error) {
	for i, o := range options {
		if more, err := visit(ctx, i, o); err != nil || !more {
			return i, err
		}
	}
	return len(options), nil
}

//gothreads:export
func Exchange(f func(o *Options, when time.Time, level Level, words ...string) (*Options, Level, []string, error)) (*Options, Level, []string, error) {
	return f(&Options{Degree: 1}, time.Unix(0, 0), High, "a", "b")
}

// ExchangeNumbers gives a callable n numbers, and returns those that it returns.
//
//gothreads:export
func ExchangeNumbers(n int, f func(x []float64, b []byte) ([]int32, error)) ([]int32, error) {
	return f(Range(n), make([]byte, n))
}

//gothreads:export
func Tell(f func(text string), words ...string) {
	for _, word := range words {
		f(word)
	}
}

// Attempt calls f, and does with its error what how says.
//
//gothreads:export
func Attempt(how string, f func() error) (string, error) {
	err := f()
	switch how {
	case "return":
		return "", err
	case "wrap":
		return "", fmt.Errorf("wrapped: %w", err)
	case "join":
		return "", errors.Join(ErrZero, err)
	case "replace":
		return "", errors.New("another")
	}
	var raised *guest.Exception
	if !errors.As(err, &raised) {
		return fmt.Sprint(err), nil
	}
	return fmt.Sprintf("%s|%s|%v", raised.Type, raised.Text, err), nil
}

// Deferred calls f, and counts when it returns or panics.
//
//gothreads:export
func Deferred(f func() int) int {
	defer stopped.Add(1)
	return f()
}

// Together calls f from n goroutines at a time.
//
//gothreads:export
func Together(n int, f func(int) (int, error)) (int, error) {
	var group sync.WaitGroup
	results, failures := make([]int, n), make([]error, n)
	for i := range n {
		group.Go(func() { results[i], failures[i] = f(i) })
	}
	group.Wait()
	sum := 0
	for _, result := range results {
		sum += result
	}
	return sum, errors.Join(failures...)
}

// Astray calls f from another goroutine.
//
//gothreads:export
func Astray(f func() int) int {
	c := make(chan int)
	go func() { c <- f() }()
	return <-c
}

var keptReader io.Reader

var keptFunc func() error

// KeepLent keeps what it is given, for UseKept.
//
//gothreads:export
func KeepLent(r io.Reader, f func() error) { keptReader, keptFunc = r, f }

//gothreads:export
func UseKept() (read, called string, over bool) {
	if keptReader == nil {
		return "", "", false
	}
	_, err := keptReader.Read(make([]byte, 1))
	failed := keptFunc()
	return err.Error(), failed.Error(), errors.Is(err, guest.ErrCallOver) && errors.Is(failed, guest.ErrCallOver)
}

// Filter yields the words that keep keeps.
//
//gothreads:export
func Filter(ctx context.Context, words []string, keep func(string) bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for word := range slices.Values(words) {
			if keep(word) && !yield(word) {
				return
			}
		}
	}
}

// Lines yields the bytes of a file object, one at a time.
//
//gothreads:export
func Lines(r io.Reader) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		var b [1]byte
		for {
			_, err := r.Read(b[:])
			if err == io.EOF || !yield(int(b[0]), err) || err != nil {
				return
			}
		}
	}
}
