package wasm

import (
	"fmt"
	"io"
)

// A Reader reads the parts of WebAssembly's binary format. The first error stays: later reads return zero values.
type Reader struct {
	data []byte
	at   int
	err  error
}

// NewReader returns a reader of data, which it does not change.
func NewReader(data []byte) *Reader { return &Reader{data: data} }

// Err returns the first error, or nil.
func (r *Reader) Err() error { return r.err }

// Len returns how many bytes are left; 0 after an error.
func (r *Reader) Len() int { return len(r.data) - r.at }

// At returns the offset of the next byte.
func (r *Reader) At() int { return r.at }

// Fail notes an error, unless there is one already, and ends the input.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at offset %d: %w", r.at, fmt.Errorf(format, args...))
	}
	r.at = len(r.data)
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if r.at >= len(r.data) {
		r.Fail("%w", io.ErrUnexpectedEOF)
		return 0
	}
	b := r.data[r.at]
	r.at++
	return b
}

// Bytes reads n bytes. The result shares memory with the input.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > r.Len() {
		r.Fail("%w", io.ErrUnexpectedEOF)
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

// Rest reads what is left.
func (r *Reader) Rest() []byte { return r.Bytes(r.Len()) }

// U32 reads an unsigned LEB128 number of 32 bits.
func (r *Reader) U32() uint32 {
	var value uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.Byte()
		value |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if value > 1<<32-1 {
				break
			}
			return uint32(value)
		}
	}
	r.Fail("a number has more than 32 bits")
	return 0
}

// Signed reads a signed LEB128 number of up to 64 bits.
func (r *Reader) Signed() int64 {
	var value int64
	for shift := 0; shift < 70; shift += 7 {
		b := r.Byte()
		value |= int64(b&0x7f) << shift
		if b < 0x80 {
			if shift += 7; shift < 64 && b&0x40 != 0 {
				value |= -1 << shift
			}
			return value
		}
	}
	r.Fail("a number has more than 64 bits")
	return 0
}

// Name reads a string with its length before it.
func (r *Reader) Name() string { return string(r.Bytes(int(r.U32()))) }

// Count reads the length of a vector whose items take at least one byte each, so that it cannot exceed the input.
func (r *Reader) Count() int {
	n := int(r.U32())
	if n > r.Len() {
		r.Fail("a vector of %d items does not fit", n)
		return 0
	}
	return n
}

// AppendUnsigned appends value as an unsigned LEB128 number.
func AppendUnsigned(b []byte, value uint64) []byte {
	for value >= 0x80 {
		b = append(b, byte(value)|0x80)
		value >>= 7
	}
	return append(b, byte(value))
}

// AppendSigned appends value as a signed LEB128 number.
func AppendSigned(b []byte, value int64) []byte {
	for value < -0x40 || value >= 0x40 {
		b = append(b, byte(value)|0x80)
		value >>= 7
	}
	return append(b, byte(value)&0x7f)
}

// AppendVector appends content with its length before it.
func AppendVector(b, content []byte) []byte {
	return append(AppendUnsigned(b, uint64(len(content))), content...)
}
