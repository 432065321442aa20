// The program of python -m benchmarks.serving_load: its answers can be checked, and some end the module.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"gothreads/guest"
)

// Add returns the sum of a and b.
//
//go:wasmexport add
func Add(a, b int32) int32 { return a + b }

// Squares returns the first n squares.
//
//gothreads:export
func Squares(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i*i); i++ {
		}
	}
}

// Upper answers each line.
//
//gothreads:export
func Upper(r io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if !yield(strings.ToUpper(lines.Text()), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield("", err)
		}
	}
}

// Digest reads a body as it comes, and returns its SHA-256.
//
//gothreads:export
func Digest(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}

// Die ends the module.
//
//gothreads:export
func Die(how string) error {
	switch how {
	case "exit":
		os.Exit(3)
	case "panic":
		var none map[string]int
		none["a"] = 1
	case "trap":
		*(*byte)(unsafe.Pointer(^uintptr(0))) = 1 // beyond the memory of WebAssembly
	case "goroutine":
		go panic("in a goroutine")
		select {}
	}
	return errors.New("expected exit, panic, trap or goroutine")
}

// shift answers each byte with the next one, while the body comes.
func shift(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
	if err := answer.SetContentType("application/x-shifted"); err != nil {
		return err
	}
	for piece := make([]byte, 64<<10); ; {
		n, err := body.Read(piece)
		for i := range piece[:n] {
			piece[i]++
		}
		if _, err := answer.Write(piece[:n]); err != nil {
			return err
		}
		if err := answer.Flush(); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func main() {
	guest.Handle("hash", func(payload []byte) ([]byte, error) {
		sum := sha256.Sum256(payload)
		return []byte(hex.EncodeToString(sum[:])), nil
	})
	guest.HandleContext("wait", func(ctx context.Context, payload []byte) ([]byte, error) {
		ms, err := strconv.Atoi(string(payload))
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
			return payload, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	guest.HandleStream("shift", shift)
	select {}
}
