// Command traced says which trace its calls belong to.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"gothreads/guest"
)

// Trace returns the headers of the call's trace.
//
//gothreads:export
func Trace(ctx context.Context) map[string]string { return guest.TraceHeaders(ctx) }

// Traces does so for each of n items.
//
//gothreads:export
func Traces(ctx context.Context, n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 0; i < n && yield(guest.TraceHeaders(ctx)["traceparent"]); i++ {
		}
	}
}

// Sum has an argument whose memory is not copied.
//
//gothreads:export
func Sum(ctx context.Context, x []float64) (string, float64) {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return guest.TraceHeaders(ctx)["traceparent"], sum
}

//gothreads:export
func Fail() error { return errors.New("as asked") }

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

func init() {
	guest.HandleContext("trace", func(ctx context.Context, payload []byte) ([]byte, error) {
		if string(payload) == "fail" {
			return nil, errors.New("as asked")
		}
		return json.Marshal(guest.TraceHeaders(ctx))
	})
	guest.HandleJSON("json", func(ctx context.Context, _ any) (map[string]string, error) {
		return guest.TraceHeaders(ctx), nil
	})
	guest.HandleStream("stream", func(ctx context.Context, _ io.Reader, answer *guest.StreamWriter) error {
		return json.NewEncoder(answer).Encode(guest.TraceHeaders(ctx))
	})
	guest.HandleLent("same", func(payload []byte) ([]byte, error) { return payload, nil })
}

func main() { select {} }
