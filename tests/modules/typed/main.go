// The module of tests/typed: functions of all types.
package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"typed/shapes"
)

func main() { select {} }

// Color is a color.
type Color int

const (
	ColorRed Color = iota
	ColorGreen
	ColorDarkBlue
)

// Level is an enumeration of strings.
type Level string

const (
	Low  Level = "low"
	High Level = "high"
)

// Mask has a constant that int64 cannot hold.
type Mask uint64

const (
	MaskOne Mask = 1
	MaskAll Mask = 1<<64 - 1
)

// Celsius is a number with a name.
type Celsius float64

// Options say how to fit.
type Options struct {
	// Degree is the degree of the polynomial.
	Degree int
	Rate   float64 // Rate is a float.
	Name   string
	Robust bool
	Count  uint16 `json:"n,omitempty"`
	hidden int
	Secret string `json:"-"`
}

// Base is embedded.
type Base struct {
	ID   int64
	Note string
}

// Everything has a field of each type.
type Everything struct {
	Base
	Bool     bool
	Int      int
	Int8     int8
	Int16    int16
	Int32    int32
	Int64    int64
	Uint     uint
	Uint8    uint8
	Uint16   uint16
	Uint32   uint32
	Uint64   uint64
	Float32  float32
	Float64  float64
	Complex  complex128
	String   string
	Bytes    []byte
	Color    Color
	Level    Level
	Celsius  Celsius
	Time     time.Time
	Duration time.Duration
	Numbers  []float64
	Ints     []int
	Strings  []string
	Colors   []Color
	Matrix   [][]float64
	Fixed    [3]int32
	Digest   [4]byte
	Pair     [2]string
	ByName   map[string]int
	ByNumber map[int32]string
	Set      map[string]struct{}
	Any      any
	Pointer  *Options
	Options  Options
	List     []Options
	Number   *int
	Tree     *Tree
	Addr     netip.Addr
	Big      *big.Int
	Class    string `json:"class"`
	Type     Mask
	Point    shapes.Point
	Page     shapes.Page[Options]
}

// Tree is recursive.
type Tree struct {
	Value int
	Left  *Tree
	Right *Tree
	More  []Tree
	ByKey map[string]Tree
}

//gothreads:export
func Echo(e Everything) Everything { return e }

// EchoOptions returns the options.
//
//gothreads:export
func EchoOptions(o Options) Options { return o }

//gothreads:export
func EchoTree(t *Tree) *Tree { return t }

//gothreads:export
func EchoAny(v any) any { return v }

//gothreads:export
func EchoNumbers(a []float64, b []float32, c []int, d []int8, e []uint16, f []byte) ([]float64, []float32, []int, []int8, []uint16, []byte) {
	return a, b, c, d, e, f
}

//gothreads:export
func EchoTime(t time.Time, d time.Duration) (time.Time, time.Duration) { return t, d }

//gothreads:export
func Add(a, b int) int { return a + b }

//gothreads:export shout
func Louder(s string) string { return s + "!" }

//gothreads:export
func Sum(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum
}

// Range returns n numbers.
//
//gothreads:export
func Range(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i)
	}
	return x
}

//gothreads:export
func Join(separator string, words ...string) string {
	out := ""
	for i, word := range words {
		if i > 0 {
			out += separator
		}
		out += word
	}
	return out
}

// Total adds numbers up.
//
//gothreads:export
func Total(numbers ...float64) (sum float64) {
	for _, number := range numbers {
		sum += number
	}
	return sum
}

//gothreads:export
func Nothing() {}

//gothreads:export
func Divide(a, b int) (quotient, remainder int, err error) {
	if b == 0 {
		return 0, 0, ErrZero
	}
	return a / b, a % b, nil
}

// ErrZero is returned for a division by zero.
var ErrZero = errors.New("division by zero")

// ErrOther is another one.
var ErrOther = errors.New("other")

// ParseError says where a text is wrong.
type ParseError struct {
	// Line counts from 1.
	Line    int
	Message string
	Err     error
}

func (e *ParseError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }
func (e *ParseError) Unwrap() error { return e.Err }

// Code is an error of a basic type.
type Code int

func (c Code) Error() string { return fmt.Sprintf("code %d", int(c)) }

// OutliersError is an error with many numbers.
type OutliersError struct{ Values []float64 }

func (e *OutliersError) Error() string { return fmt.Sprintf("%d outliers", len(e.Values)) }

//gothreads:export
func Fail(how string) error {
	switch how {
	case "":
		return nil
	case "zero":
		return fmt.Errorf("wrapped: %w", ErrZero)
	case "parse":
		return &ParseError{Line: 3, Message: "what?"}
	case "both":
		return fmt.Errorf("both: %w", &ParseError{Line: 4, Message: "zero", Err: ErrZero})
	case "code":
		return Code(7)
	case "outliers":
		return &OutliersError{slices.Repeat([]float64{1.5}, 20_000)}
	}
	return errors.New(how)
}

var paused, cancelled atomic.Int32

// TimeLeft returns how many seconds its context still has, if it has a deadline.
//
//gothreads:export
func TimeLeft(ctx context.Context) (float64, bool) {
	deadline, ok := ctx.Deadline()
	return time.Until(deadline).Seconds(), ok
}

//gothreads:export
func Pause(ctx context.Context, seconds float64) (string, error) {
	paused.Add(1)
	select {
	case <-ctx.Done():
		cancelled.Add(1)
		return "", context.Cause(ctx)
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return "waited", nil
	}
}

//gothreads:export
func Paused() int { return int(paused.Load()) }

//gothreads:export
func Cancelled() int { return int(cancelled.Load()) }

// Scaled is a method.
//
//gothreads:export
func (o Options) Scaled(by int) Options {
	o.Degree *= by
	return o
}

//gothreads:export
func Cycle() *Tree {
	t := &Tree{}
	t.Left = t
	return t
}

//gothreads:export
func Odd() any { return make(chan int) }

//gothreads:export
func Exit(code int) { os.Exit(code) }

// Size is of a file.
//
//gothreads:export
func Size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("size: %w", err)
	}
	return info.Size(), nil
}

var held []float64

//gothreads:export
func Keep(x []float64) { held = x }

//gothreads:export
func Kept() []float64 { return held }

// NamedAsAnAttribute has a name that an app has itself.
//
//gothreads:export configuration
func NamedAsAnAttribute() string { return "a function" }

//gothreads:export
func Reverse(b []byte) []byte {
	slices.Reverse(b)
	return b
}

var yielded, stopped atomic.Int32

// Yielded says how many items iterators have yielded, and how many of them have been stopped.
//
//gothreads:export
func Yielded() (items, stops int) { return int(yielded.Load()), int(stopped.Load()) }

// Count yields the numbers below n; all of them if n is negative.
//
//gothreads:export
func Count(n int) iter.Seq[int] {
	if n == 0 {
		return nil
	}
	return func(yield func(int) bool) {
		for i := 0; i != n; i++ {
			yielded.Add(1)
			if !yield(i) {
				stopped.Add(1)
				return
			}
		}
	}
}

//gothreads:export
func Enumerate(words []string) iter.Seq2[int, string] { return slices.All(words) }

// Rows yields large rows.
//
//gothreads:export
func Rows(n, size int) iter.Seq[[]float64] {
	return func(yield func([]float64) bool) {
		for i := range n {
			row := make([]float64, size)
			row[size-1] = float64(i)
			if !yield(row) {
				return
			}
		}
	}
}

// Scan yields words until there is an empty one, which is an error.
//
//gothreads:export
func Scan(words ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i, word := range words {
			var err error
			if word == "" {
				err = &ParseError{Line: i, Message: "empty"}
			}
			if !yield(word, err) {
				return
			}
		}
	}
}

// Receive returns a channel that is sent n options; then nothing more until the context ends, if wait.
//
//gothreads:export
func Receive(ctx context.Context, n int, wait bool) (<-chan Options, error) {
	if n < 0 {
		return nil, ErrOther
	}
	c := make(chan Options)
	go func() {
		defer close(c)
		for i := range n {
			select {
			case c <- Options{Degree: i}:
			case <-ctx.Done():
			}
		}
		if wait {
			<-ctx.Done()
			stopped.Add(1)
		}
	}()
	return c, nil
}

//gothreads:export
func OddItems() iter.Seq[any] {
	return func(yield func(any) bool) { _ = yield(1) && yield(make(chan int)) }
}
