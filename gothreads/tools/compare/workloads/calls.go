package main

import (
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// add is the shortest possible call.
//
//go:wasmexport add
func add(a, b int64) int64 { return a + b }

const (
	addresses = 40
	numbersOf = 4000
)

var (
	text = func() []byte {
		var b strings.Builder
		for i := range addresses {
			b.WriteString("at " + strconv.Itoa(i*i*i) + " there was user" + strconv.Itoa(i) + "@host" + strconv.Itoa(i%7) + ".com and others; ")
		}
		return []byte(b.String())
	}()
	address = regexp.MustCompile(`(\w+)@(\w+)\.com`)
)

// compute finds addresses in a text with a regular expression, and sorts numbers, as programs do that compute. It
// returns the sum of the addresses' offsets, each times its ordinal, and of the sorted numbers, each times its index.
//
//go:wasmexport compute
func compute(seed int64) int64 {
	sum, from := int64(0), 0
	for n := int64(1); ; n++ {
		found := address.FindIndex(text[from:])
		if found == nil {
			break
		}
		sum += n * int64(from+found[0])
		from += found[1]
	}
	var numbers [numbersOf]int
	x := uint32(seed)
	for i := range numbers {
		x = x*1664525 + 1013904223
		numbers[i] = int(x >> 8)
	}
	sort.Ints(numbers[:])
	for i, number := range numbers {
		sum += int64(i * number)
	}
	return sum
}

// primes counts the primes below n with a sieve: nothing but tight loops, where preemption checks cost most.
//
//go:wasmexport primes
func primes(n int64) int64 {
	composite := make([]bool, n)
	found := int64(0)
	for i := int64(2); i < n; i++ {
		if composite[i] {
			continue
		}
		found++
		for j := i * i; j < n; j += i {
			composite[j] = true
		}
	}
	return found
}

// queens counts the solutions of the n queens puzzle.
func queens(n int64) int64 { return place(1<<n-1, 0, 0, 0) }

func place(all, columns, left, right uint64) int64 {
	if columns == all {
		return 1
	}
	found := int64(0)
	for free := all &^ (columns | left | right); free != 0; {
		bit := free & -free
		free ^= bit
		found += place(all, columns|bit, (left|bit)<<1, (right|bit)>>1)
	}
	return found
}

type node struct {
	left, right *node
	name        string
}

func grow(depth int, at int64) *node {
	n := &node{name: strconv.FormatInt(at, 10)}
	if depth > 0 {
		n.left, n.right = grow(depth-1, 2*at), grow(depth-1, 2*at+1)
	}
	return n
}

func (n *node) collect(names map[string]int64) {
	if n != nil {
		names[n.name] = int64(len(n.name))
		n.left.collect(names)
		n.right.collect(names)
	}
}

// allocate builds a tree of strings, puts them into a map, and sorts them: the kind of garbage that most programs make.
// It returns the number of letters in all names, plus one for each name that is out of order.
//
//go:wasmexport allocate
func allocate(depth int64) int64 {
	names := make(map[string]int64)
	grow(int(depth), 1).collect(names)
	inOrder := make([]string, 0, len(names))
	letters := int64(0)
	for name, length := range names {
		inOrder = append(inOrder, name)
		letters += length
	}
	sort.Strings(inOrder)
	for i := 1; i < len(inOrder); i++ {
		if inOrder[i-1] >= inOrder[i] {
			letters++
		}
	}
	return letters
}

// call_back calls the host's function n times, each time with its previous result.
//
//go:wasmexport call_back
func call_back(n int64) int64 {
	value := int64(0)
	for range n {
		value = hostCall(value)
	}
	return value
}

// flip inverts the bits of the first and the last byte, in place, and returns the bytes.
func flip(payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, errNoBytes
	}
	payload[0] ^= 0xff
	payload[len(payload)-1] ^= 0xff
	return payload, nil
}
