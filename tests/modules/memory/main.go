// What Go's standard library does with memory, against loops over bytes: for optimized code (test_optimizer.py).
package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"unsafe"
)

func main() {}

// random is the same each time.
var random = rand.New(rand.NewPCG(1, 2))

// check tries texts of a length at places from the beginning of a page on, and so that they end where it does; and a
// longer one. The page at begin is the last one of memory. It returns how many differences there are, and prints them.
//
//go:wasmexport check
func check(begin, size int32) int32 {
	page, length := unsafe.Slice((*byte)(unsafe.Pointer(uintptr(begin))), 1<<16), int(size)
	differences := int32(0)
	report := func(what string, at, length int, got, want any) {
		if got != want {
			differences++
			fmt.Println(what, "at", at, "length", length, "got", got, "want", want)
		}
	}
	try := func(at, length int) {
		differs := func(what string, got, want any) { report(what, at, length, got, want) }
		fill(page[max(at-40, 0):min(at+length+40, len(page))], 2)
		text, letters := page[at:at+length], byte(2+random.IntN(200)*random.IntN(2))
		fill(text, letters)
		search(text, letters, differs)
		compare(text, bytes.Clone(text), differs)
		move(page, at, length, differs)
	}
	for shift := range 17 {
		try(shift, length)
		try(len(page)-shift-length, length)
	}
	values(func(what string, got, want any) { report(what, 0, 0, got, want) })
	longer := length + random.IntN(5000)
	try(random.IntN(len(page)-longer), longer)
	return differences
}

// fill fills memory with some letters, the first of which is most.
func fill(text []byte, letters byte) {
	for i := range text {
		text[i] = 'a' + byte(random.IntN(int(letters)))*byte(random.IntN(2))
	}
}

type differs func(what string, got, want any)

func search(text []byte, letters byte, differs differs) {
	for _, c := range []byte{'a', 'a' + letters - 1, 'a' + byte(random.IntN(int(letters)+1)), 0, 0x80, 0xff} {
		found, count := -1, 0
		for i, x := range text {
			if x == c {
				if found < 0 {
					found = i
				}
				count++
			}
		}
		differs("bytes.IndexByte", bytes.IndexByte(text, c), found)
		differs("strings.IndexByte", strings.IndexByte(view(text), c), found)
		differs("bytes.Count", bytes.Count(text, []byte{c}), count)
		differs("strings.Count", strings.Count(view(text), string([]byte{c})), count)
	}
	for range 4 {
		n := random.IntN(20)
		if random.IntN(4) == 0 {
			n = random.IntN(100)
		}
		part := make([]byte, n)
		fill(part, letters)
		if n < len(text) && random.IntN(2) == 0 {
			at := random.IntN(len(text) - n + 1)
			part = bytes.Clone(text[at : at+n])
			if n > 0 && random.IntN(4) == 0 {
				part[random.IntN(n)] ^= 1
			}
		}
		found := -1
		for i := 0; i+n <= len(text) && found < 0; i++ {
			found = i
			for k, c := range part {
				if text[i+k] != c {
					found = -1
					break
				}
			}
		}
		differs("bytes.Index", bytes.Index(text, part), found)
		differs("strings.Index", strings.Index(view(text), view(part)), found)
	}
}

// compare compares a text with another that is the same, differs in one byte, or is longer or shorter.
func compare(text, other []byte, differs differs) {
	for try := range 5 {
		first, second := text, other
		if len(text) > 0 && try > 0 {
			at := random.IntN(len(text))
			old := other[at]
			other[at] ^= 1 << random.IntN(8)
			defer func() { other[at] = old }()
		}
		if try > 2 {
			first, second = first[:random.IntN(len(first)+1)], second[:random.IntN(len(second)+1)]
		}
		want := 0
		for i := 0; i < min(len(first), len(second)) && want == 0; i++ {
			want = int(first[i]) - int(second[i])
		}
		if want == 0 {
			want = len(first) - len(second)
		}
		want = max(-1, min(want, 1))
		differs("bytes.Compare", bytes.Compare(first, second), want)
		differs("bytes.Compare, the other way", bytes.Compare(second, first), -want)
		differs("strings.Compare", strings.Compare(view(first), view(second)), want)
		differs("bytes.Equal", bytes.Equal(first, second), want == 0)
	}
}

// move copies bytes to where they overlap with themselves, or not, and clears them.
func move(page []byte, at, length int, differs differs) {
	to := max(0, min(1<<16-length, at+random.IntN(200)-100))
	begin, end := max(0, min(at, to)-20), min(1<<16, max(at, to)+length+20)
	before := bytes.Clone(page[begin:end])
	wrong := func(moved func(i int) byte) int {
		for i := begin; i < end; i++ {
			want := before[i-begin]
			if i >= to && i < to+length {
				want = moved(i - to + at - begin)
			}
			if page[i] != want {
				return i
			}
		}
		return -1
	}
	copy(page[to:to+length], page[at:at+length])
	differs("copy", wrong(func(i int) byte { return before[i] }), -1)
	clear(page[to : to+length])
	differs("clear", wrong(func(int) byte { return 0 }), -1)
}

// values copies and clears values of some sizes that the compiler knows.
func values(differs differs) {
	value[struct{ a [17]byte }](differs)
	value[struct{ a [24]byte }](differs)
	value[struct{ a [31]byte }](differs)
	value[struct{ a [40]byte }](differs)
	value[struct{ a [63]byte }](differs)
	value[struct{ a [72]byte }](differs)
	value[struct{ a [100]byte }](differs)
	value[struct{ a [128]byte }](differs)
	value[struct{ a [130]byte }](differs)
}

// value copies a value and clears it, and looks at what lies beside it.
func value[T any](differs differs) {
	var three, before [3]T
	size := int(unsafe.Sizeof(three[0]))
	all := unsafe.Slice((*byte)(unsafe.Pointer(&three)), 3*size)
	fill(all, 20)
	before = three
	was := unsafe.Slice((*byte)(unsafe.Pointer(&before)), 3*size)
	wrong := func(moved func(i int) byte) int {
		for i, got := range all {
			want := was[i]
			if i >= size && i < 2*size {
				want = moved(i)
			}
			if got != want {
				return i
			}
		}
		return -1
	}
	assign(&three[1], &three[2])
	differs("a value", wrong(func(i int) byte { return was[i+size] }), -1)
	reset(&three[1])
	differs("no value", wrong(func(int) byte { return 0 }), -1)
}

//go:noinline
func assign[T any](to, from *T) { *to = *from }

//go:noinline
func reset[T any](to *T) { var zero T; *to = zero }

func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }
