// The module of benchmarks/typed.py.
package main

import (
	"encoding/json"
	"iter"

	"gothreads/guest"
)

func main() { select {} }

// Options has five fields.
type Options struct {
	Degree int     `json:"degree"`
	Rate   float64 `json:"rate"`
	Name   string  `json:"name"`
	Robust bool    `json:"robust"`
	Count  int     `json:"count"`
}

//gothreads:export
func Echo(o Options) Options { return o }

//gothreads:export
func Nothing() {}

//gothreads:export
func Sum(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum
}

// First takes the numbers, and reads one.
//
//gothreads:export
func First(x []float64) float64 { return x[0] }

var kept, stored []float64

// Store takes the numbers, and keeps them: the next call cannot have their memory.
//
//gothreads:export
func Store(x []float64) { stored = x }

//gothreads:export
func Keep(x []float64) { kept = x }

// SumKept is the loop alone.
//
//gothreads:export
func SumKept() float64 { return Sum(kept) }

// Kept returns the numbers.
//
//gothreads:export
func Kept() []float64 { return kept }

//gothreads:export
func Count(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i); i++ {
		}
	}
}

func init() {
	guest.Handle("echo", func(payload []byte) ([]byte, error) {
		var o Options
		if err := json.Unmarshal(payload, &o); err != nil {
			return nil, err
		}
		return json.Marshal(o)
	})
}
