// Package other imports from the host too: what gothreads reads is all packages of a program.
package other

// Twice is the host's.
//
//go:wasmimport elsewhere twice
func Twice(n int32) int32
