// Program gate starts when its standard input says so, by a line for each start. The line "panic" makes it panic.
package main

import (
	"context"
	"iter"
	"os"
)

var calls int

func init() {
	os.Stdout.WriteString("starts\n")
	line, b := "", make([]byte, 1)
	for {
		if n, err := os.Stdin.Read(b); n == 0 || err != nil || b[0] == '\n' {
			break
		}
		line += string(b)
	}
	if line == "panic" {
		panic("at the start")
	}
}

// Point is a struct.
type Point struct{ X, Y int }

//gothreads:export
func Count() int {
	calls++
	return calls
}

//gothreads:export
func Double(p Point) Point { return Point{2 * p.X, 2 * p.Y} }

//gothreads:export
func Panic() { panic("on purpose") }

//gothreads:export
func Exit(code int) { os.Exit(code) }

//gothreads:export
func Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

//gothreads:export
func Call(f func() (int, error)) (int, error) { return f() }

//gothreads:export
func Endless() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; yield(i); i++ {
		}
	}
}

func main() { select {} }
