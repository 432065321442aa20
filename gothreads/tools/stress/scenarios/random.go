package main

// A random is a generator (splitmix64). Each caller and goroutine has its own, so that everything follows from the
// seed.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n-1.
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// spin computes for a while. Use its result, or the compiler removes the computation.
func (r *random) spin(most int) uint64 {
	x := r.next()
	for range x % uint64(most) {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}
