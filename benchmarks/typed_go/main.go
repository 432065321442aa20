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

//gothreads:export
func Numbers(n int) []float64 { return make([]float64, n) }

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
