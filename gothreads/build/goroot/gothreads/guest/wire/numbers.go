package wire

import (
	"encoding/binary"
	"math"
	"unsafe"

	"gothreads/guest/slot"
)

// The kinds of extensions. Those of numbers have the bytes of the numbers, as WebAssembly and all hosts have them. With
// kindPart added, there is only the place and the length of the bytes among the message's parts, in four bytes each.
const (
	kindInt8 = 1 + iota
	kindUint8
	kindInt16
	kindUint16
	kindInt32
	kindUint32
	kindInt64
	kindUint64
	kindFloat32
	kindFloat64
	kindComplex
	kindMissing // a missing value of pandas: a nil pointer, nil, or nothing that fits
	kindPart    = 32
	kindTime    = 255 // MessagePack's own: -1
)

var kindNames = [...]string{"", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
	"float64"}

func kindName(kind byte) string {
	if kind == 0 || int(kind) >= len(kindNames) {
		return "unknown things"
	}
	return kindNames[kind]
}

func isExtension(c byte) bool { return c >= 0xc7 && c <= 0xc9 || c >= 0xd4 && c <= 0xd8 }

// extension reads an extension. The kind of a part is that of its bytes.
func (r *Reader) extension() (kind byte, data []byte) {
	c := r.peek()
	if !isExtension(c) {
		r.expected("an extension")
		return 0, nil
	}
	r.at++
	size := uint64(1) << ((c - 0xd4) & 7)
	if c <= 0xc9 {
		size = r.number(1 << (c - 0xc7))
	}
	head := r.take(1)
	data = r.take(size)
	if r.Fault != nil {
		return 0, nil
	}
	kind = head[0]
	if kind == kindTime || kind&kindPart == 0 {
		return kind, data
	}
	if len(data) != 8 {
		r.fail("the message is damaged: a part")
		return 0, nil
	}
	begin, length := uint64(binary.LittleEndian.Uint32(data)), uint64(binary.LittleEndian.Uint32(data[4:]))
	if begin+length > uint64(len(r.parts)) {
		r.fail("the message is damaged: a part is outside")
		return 0, nil
	}
	return kind &^ kindPart, r.parts[begin : begin+length]
}

// Number is a type of the numbers in slices.
type Number interface {
	~int8 | ~uint8 | ~int16 | ~uint16 | ~int32 | ~uint32 | ~int64 | ~uint64 | ~int | ~uint | ~float32 | ~float64
}

// isFloat, isSigned: of T. The compiler knows the answers.
func isFloat[T Number]() bool  { half := 0.5; return T(half) != 0 }
func isSigned[T Number]() bool { return T(0)-1 < 0 }

func kindOf[T Number]() byte {
	var zero T
	switch size := unsafe.Sizeof(zero); {
	case isFloat[T]() && size == 4:
		return kindFloat32
	case isFloat[T]():
		return kindFloat64
	case size == 1:
		return sign[T](kindInt8)
	case size == 2:
		return sign[T](kindInt16)
	case size == 4:
		return sign[T](kindInt32)
	}
	return sign[T](kindInt64)
}

func sign[T Number](kind byte) byte {
	if isSigned[T]() {
		return kind
	}
	return kind + 1
}

// Numbers reads a slice of numbers: a buffer of numbers, or a list. Of a buffer of another type, all numbers must have
// the same value in this type; but a float64 is rounded to a float32.
func Numbers[T Number](r *Reader) []T {
	if r.Fault == nil && isExtension(r.peek()) {
		before := r.at
		kind, data := r.extension()
		if r.Fault != nil {
			return nil
		}
		if kind == kindOf[T]() {
			return share[T](r, data)
		}
		switch kind {
		case kindInt8:
			return convert[int8, T](r, data)
		case kindUint8:
			return convert[uint8, T](r, data)
		case kindInt16:
			return convert[int16, T](r, data)
		case kindUint16:
			return convert[uint16, T](r, data)
		case kindInt32:
			return convert[int32, T](r, data)
		case kindUint32:
			return convert[uint32, T](r, data)
		case kindInt64:
			return convert[int64, T](r, data)
		case kindUint64:
			return convert[uint64, T](r, data)
		case kindFloat32:
			return convert[float32, T](r, data)
		case kindFloat64:
			return convert[float64, T](r, data)
		}
		r.at = before
		r.expected("a list or an array of numbers")
		return nil
	}
	c := r.peek()
	if c&0xf0 != 0x90 && c != 0xdc && c != 0xdd {
		r.expected("a list or an array of numbers")
		return nil
	}
	list := make([]T, r.Array())
	for i := range list {
		if list[i] = Scalar[T](r); r.BadAt(i) {
			return nil
		}
	}
	return list
}

// Scalar reads one number.
func Scalar[T Number](r *Reader) T {
	var zero T
	bits := uint(unsafe.Sizeof(zero)) * 8
	switch {
	case isFloat[T]() && bits == 32:
		return T(r.Float32())
	case isFloat[T]():
		return T(r.Float())
	case isSigned[T]():
		return T(r.Int(bits))
	}
	return T(r.Uint(bits))
}

// share returns bytes as numbers of their own type: as they lie there, if they are the caller's and aligned.
func share[T Number](r *Reader, data []byte) []T {
	var zero T
	size := int(unsafe.Sizeof(zero))
	n := len(data) / size
	if n*size != len(data) {
		r.fail("the message is damaged: half a number")
		return nil
	}
	if n == 0 {
		return []T{}
	}
	if begin := unsafe.Pointer(unsafe.SliceData(data)); len(data) > slot.MostLent && uintptr(begin)%uintptr(size) == 0 {
		r.shared = true
		return unsafe.Slice((*T)(begin), n)
	}
	list := make([]T, n)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), len(data)), data)
	return list
}

// beyond returns the least power of two that is above all integers of a type.
func beyond[T Number]() float64 {
	var zero T
	limit := math.Ldexp(1, int(unsafe.Sizeof(zero))*8)
	if isSigned[T]() {
		limit /= 2
	}
	return limit
}

func convert[From, T Number](r *Reader, data []byte) []T {
	if isFloat[From]() && !isFloat[T]() {
		r.fail("expected an array of %s, got one of %s", kindName(kindOf[T]()), kindName(kindOf[From]()))
		return nil
	}
	from := share[From](r, data)
	list := make([]T, len(from))
	limit := beyond[From]()
	for i, number := range from {
		list[i] = T(number)
		lost := From(list[i]) != number || (list[i] < 0) != (number < 0)
		switch {
		case isFloat[From](): // rounding is no loss; infinity is
			lost = math.IsInf(float64(list[i]), 0) && !math.IsInf(float64(number), 0)
		case isFloat[T](): // a float beyond the integers is converted to the largest
			lost = lost || float64(list[i]) >= limit
		}
		if lost {
			r.fail("expected an array of %s, got one of %s with %v", kindName(kindOf[T]()),
				kindName(kindOf[From]()), number)
			if isFloat[T]() && !isFloat[From]() {
				r.Fault.Message += ", which would be rounded"
			}
			r.BadAt(i)
			return nil
		}
	}
	return list
}

// anyNumbers reads a buffer of numbers for Any.
func (r *Reader) anyNumbers() any {
	probe := *r
	kind, _ := probe.extension()
	switch kind {
	case kindInt8:
		return Numbers[int8](r)
	case kindUint8:
		return r.Bytes()
	case kindInt16:
		return Numbers[int16](r)
	case kindUint16:
		return Numbers[uint16](r)
	case kindInt32:
		return Numbers[int32](r)
	case kindUint32:
		return Numbers[uint32](r)
	case kindInt64:
		return Numbers[int64](r)
	case kindUint64:
		return Numbers[uint64](r)
	case kindFloat32:
		return Numbers[float32](r)
	case kindFloat64:
		return Numbers[float64](r)
	}
	r.fail("the message is damaged: an extension of kind %d", kind)
	return nil
}
