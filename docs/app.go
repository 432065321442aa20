// Command app is what the examples of the guides call.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gothreads/guest"
)

var counter atomic.Int64

// add returns the sum.
//
//go:wasmexport add
func add(a, b int32) int32 { return a + b }

// length returns how many bytes the text has.
//
//go:wasmexport length
func length(text string) int32 { return int32(len(text)) }

// count returns how often it was called.
//
//go:wasmexport count
func count() int64 { return counter.Add(1) }

// sleep returns after so many milliseconds.
//
//go:wasmexport sleep
func sleep(ms int64) { time.Sleep(time.Duration(ms) * time.Millisecond) }

// fail panics.
//
//go:wasmexport fail
func fail() { panic("on purpose") }

// Scale is what the handler scale takes.
type Scale struct {
	Values []float64 `json:"values"`
	By     float64   `json:"by"`
}

func init() {
	guest.Handle("upper", func(p []byte) ([]byte, error) { return bytes.ToUpper(p), nil })
	guest.Handle("even", func(p []byte) ([]byte, error) {
		if len(p)%2 == 1 {
			return nil, errors.New("an odd number of bytes")
		}
		return p, nil
	})
	guest.Handle("smooth", func(p []byte) ([]byte, error) { // a factor, then the column: float64s
		numbers := make([]float64, len(p)/8)
		if _, err := binary.Decode(p, binary.LittleEndian, numbers); err != nil || len(numbers) == 0 {
			return nil, errors.Join(err, errors.New("a factor and a column are wanted"))
		}
		factor, column := numbers[0], numbers[1:]
		for i := 1; i < len(column); i++ {
			column[i] = factor*column[i] + (1-factor)*column[i-1]
		}
		return binary.Append(nil, binary.LittleEndian, column)
	})
	guest.Handle("read", func(path []byte) ([]byte, error) { return os.ReadFile(string(path)) })
	guest.HandleJSON("scale", func(_ context.Context, in Scale) ([]float64, error) {
		for i := range in.Values {
			in.Values[i] *= in.By
		}
		return in.Values, nil
	})
	guest.HandleStream("shout", func(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
		answer.SetContentType("text/plain")
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			fmt.Fprintf(answer, "%s!\n", strings.ToUpper(lines.Text()))
			if err := answer.Flush(); err != nil { // nobody wants more
				return err
			}
		}
		return lines.Err()
	})
	guest.HandleContext("patient", func(ctx context.Context, _ []byte) ([]byte, error) {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr, "cancelled:", context.Cause(ctx))
		}
		return nil, ctx.Err()
	})
	// What gothreads.supervise carries over from an instance to the next.
	guest.Handle("save", func([]byte) ([]byte, error) { return strconv.AppendInt(nil, counter.Load(), 10), nil })
	guest.Handle("load", func(state []byte) ([]byte, error) {
		n, err := strconv.ParseInt(string(state), 10, 64)
		counter.Store(n)
		return nil, err
	})
}

func main() {
	for order := range guest.Events("order") { // a channel
		go func() {
			price, err := guest.Call("price", order) // only this goroutine waits, for as long as it takes
			fmt.Printf("%s: %s %v\n", order, price, err)
		}()
	}
}
