// Package kernels has small loops and calls, for benchmarks/std.py: what is not in the standard library's benchmarks.
package kernels

import (
	"math"
	"math/cmplx"
	"testing"
)

var (
	sink  int
	fsink float64
)

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func BenchmarkFib(b *testing.B) {
	for range b.N {
		sink += fib(22)
	}
}

const size = 64

type matrix [size][size]float64

func (m *matrix) fill(by float64) {
	for i := range m {
		for j := range m[i] {
			m[i][j] = float64(i-j) * by
		}
	}
}

func (m *matrix) product(a, b *matrix) {
	for i := range size {
		for j := range size {
			sum := 0.0
			for k := range size {
				sum += a[i][k] * b[k][j]
			}
			m[i][j] = sum
		}
	}
}

func BenchmarkMatrixProduct(b *testing.B) {
	var x, y, z matrix
	x.fill(1.5)
	y.fill(0.25)
	for range b.N {
		z.product(&x, &y)
	}
	fsink += z[3][4]
}

func mandelbrot(side int) (steps int) {
	for py := range side {
		for px := range side {
			x0, y0 := float64(px)/float64(side)*2-1.5, float64(py)/float64(side)*2-1
			x, y := 0.0, 0.0
			for range 100 {
				if x*x+y*y > 4 {
					break
				}
				x, y = x*x-y*y+x0, 2*x*y+y0
				steps++
			}
		}
	}
	return steps
}

func BenchmarkMandelbrot(b *testing.B) {
	for range b.N {
		sink += mandelbrot(32)
	}
}

type body struct{ x, y, z, vx, vy, vz, mass float64 }

func advance(bodies []body, dt float64) {
	for i := range bodies {
		a := &bodies[i]
		for j := i + 1; j < len(bodies); j++ {
			b := &bodies[j]
			dx, dy, dz := a.x-b.x, a.y-b.y, a.z-b.z
			square := dx*dx + dy*dy + dz*dz
			by := dt / (square * math.Sqrt(square))
			a.vx -= dx * b.mass * by
			a.vy -= dy * b.mass * by
			a.vz -= dz * b.mass * by
			b.vx += dx * a.mass * by
			b.vy += dy * a.mass * by
			b.vz += dz * a.mass * by
		}
	}
	for i := range bodies {
		b := &bodies[i]
		b.x += dt * b.vx
		b.y += dt * b.vy
		b.z += dt * b.vz
	}
}

func BenchmarkNBody(b *testing.B) {
	bodies := make([]body, 5)
	for i := range bodies {
		at := float64(i)
		bodies[i] = body{at * 4, 3 - at, at / 2, at / 8, 0.5 - at/9, at / 7, 1 + at}
	}
	for range b.N {
		for range 100 {
			advance(bodies, 0.001)
		}
	}
	fsink += bodies[0].x
}

// transform is a fast Fourier transform in place; len(x) is a power of 2.
func transform(x []complex128, roots []complex128) {
	n := len(x)
	for i, j := 1, 0; i < n; i++ {
		bit := n >> 1
		for ; j&bit != 0; bit >>= 1 {
			j ^= bit
		}
		j ^= bit
		if i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	for length := 2; length <= n; length <<= 1 {
		half, step := length/2, n/length
		for begin := 0; begin < n; begin += length {
			for k := range half {
				u, v := x[begin+k], x[begin+k+half]*roots[k*step]
				x[begin+k], x[begin+k+half] = u+v, u-v
			}
		}
	}
}

func BenchmarkFFT(b *testing.B) {
	const n = 1024
	roots, x := make([]complex128, n/2), make([]complex128, n)
	for i := range roots {
		roots[i] = cmplx.Rect(1, -2*math.Pi*float64(i)/n)
	}
	for range b.N {
		for i := range x {
			x[i] = complex(float64(i%17), 0)
		}
		transform(x, roots)
	}
	fsink += real(x[1])
}

func BenchmarkSum(b *testing.B) {
	numbers := make([]float64, 8192)
	for i := range numbers {
		numbers[i] = float64(i)
	}
	for range b.N {
		sum := 0.0
		for _, v := range numbers {
			sum += v
		}
		fsink += sum
	}
}

func BenchmarkSieve(b *testing.B) {
	composite := make([]bool, 1<<16)
	for range b.N {
		clear(composite)
		for i := 2; i < len(composite); i++ {
			if !composite[i] {
				sink++
				for j := i * 2; j < len(composite); j += i {
					composite[j] = true
				}
			}
		}
	}
}
