// Package shapes is a package of the program that exports a function, too.
package shapes

import "math"

// Point is a point.
type Point struct{ X, Y float64 }

// Page is generic.
type Page[T any] struct {
	Items []T
	Next  *int
}

// Distance is how far two points are from each other.
//
//gothreads:export
func Distance(a, b Point) float64 { return math.Hypot(a.X-b.X, a.Y-b.Y) }
