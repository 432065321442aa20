// Command remote_go is what benchmarks/remote.py calls.
package main

// burn computes for a while: n rounds.
//
//go:wasmexport burn
func burn(n int64) int64 {
	x := uint64(n) | 1
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return int64(x)
}

//go:wasmexport length
func length(text string) int32 { return int32(len(text)) }

func main() { select {} }
