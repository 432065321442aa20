package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"
)

// leastPart is the size, in bytes, from which numbers are a part instead of being copied into the message.
const leastPart = 32 << 10

// A Writer writes a message. Err is the first value that could not be written.
type Writer struct {
	Err error

	data []byte
	// parts lie beside the message: the host copies them from where they are.
	parts []part
	// whole: the message has no parts: it is an error's, or for an object of Python's.
	whole bool
	depth int
}

// A part is numbers of a kind, as they lie in memory.
type part struct {
	kind byte
	data []byte
}

// reset begins the message anew, as an error's.
func (w *Writer) reset() { w.data, w.parts, w.whole = w.data[:0], nil, true }

// Fail records that a value cannot be written.
func (w *Writer) Fail(format string, args ...any) {
	if w.Err == nil {
		w.Err = fmt.Errorf(format, args...)
	}
}

// Enter begins a value that may contain values of its own type; Leave ends it.
func (w *Writer) Enter() bool {
	if w.depth++; w.depth > mostDepth {
		w.Fail("a value is nested too deeply to be passed on, or in a cycle: at most %d levels", mostDepth)
		w.Nil()
		return false
	}
	return true
}

// Leave ends what Enter began.
func (w *Writer) Leave() { w.depth-- }

// Nil writes nil.
func (w *Writer) Nil() { w.data = append(w.data, 0xc0) }

// Bool writes a bool.
func (w *Writer) Bool(v bool) {
	if v {
		w.data = append(w.data, 0xc3)
	} else {
		w.data = append(w.data, 0xc2)
	}
}

// Int writes an integer.
func (w *Writer) Int(v int64) {
	switch {
	case v >= 0:
		w.Uint(uint64(v))
	case v >= -32:
		w.data = append(w.data, byte(v))
	case v >= math.MinInt8:
		w.data = append(w.data, 0xd0, byte(v))
	case v >= math.MinInt16:
		w.data = binary.BigEndian.AppendUint16(append(w.data, 0xd1), uint16(v))
	case v >= math.MinInt32:
		w.data = binary.BigEndian.AppendUint32(append(w.data, 0xd2), uint32(v))
	default:
		w.data = binary.BigEndian.AppendUint64(append(w.data, 0xd3), uint64(v))
	}
}

// Uint writes an unsigned integer.
func (w *Writer) Uint(v uint64) {
	switch {
	case v <= 0x7f:
		w.data = append(w.data, byte(v))
	case v <= math.MaxUint8:
		w.data = append(w.data, 0xcc, byte(v))
	case v <= math.MaxUint16:
		w.data = binary.BigEndian.AppendUint16(append(w.data, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		w.data = binary.BigEndian.AppendUint32(append(w.data, 0xce), uint32(v))
	default:
		w.data = binary.BigEndian.AppendUint64(append(w.data, 0xcf), v)
	}
}

// Float writes a float64.
func (w *Writer) Float(v float64) {
	w.data = binary.BigEndian.AppendUint64(append(w.data, 0xcb), math.Float64bits(v))
}

// Float32 writes a float32.
func (w *Writer) Float32(v float32) {
	w.data = binary.BigEndian.AppendUint32(append(w.data, 0xca), math.Float32bits(v))
}

// Complex writes a complex128.
func (w *Writer) Complex(v complex128) {
	w.data = append(w.data, 0xd8, kindComplex)
	w.data = binary.LittleEndian.AppendUint64(w.data, math.Float64bits(real(v)))
	w.data = binary.LittleEndian.AppendUint64(w.data, math.Float64bits(imag(v)))
}

// String writes a string. As in encoding/json, bytes that are not UTF-8 become U+FFFD.
func (w *Writer) String(v string) {
	if !utf8.ValidString(v) {
		v = strings.ToValidUTF8(v, "\uFFFD")
	}
	if len(v) < 32 {
		w.data = append(w.data, 0xa0|byte(len(v)))
	} else {
		w.length(len(v), 0xd9)
	}
	w.data = append(w.data, v...)
}

// Bytes writes bytes.
func (w *Writer) Bytes(v []byte) {
	w.length(len(v), 0xc4)
	w.data = append(w.data, v...)
}

// length writes a length in 1, 2 or 4 bytes, after the code for that.
func (w *Writer) length(n int, code byte) {
	switch {
	case n <= math.MaxUint8:
		w.data = append(w.data, code, byte(n))
	case n <= math.MaxUint16:
		w.data = binary.BigEndian.AppendUint16(append(w.data, code+1), uint16(n))
	default:
		w.data = binary.BigEndian.AppendUint32(append(w.data, code+2), uint32(n))
	}
}

// Array begins a list of n items.
func (w *Writer) Array(n int) { w.header(n, 0x90, 0xdc) }

// Map begins a map of n entries.
func (w *Writer) Map(n int) { w.header(n, 0x80, 0xde) }

func (w *Writer) header(n int, small, large byte) {
	switch {
	case n < 16:
		w.data = append(w.data, small|byte(n))
	case n <= math.MaxUint16:
		w.data = binary.BigEndian.AppendUint16(append(w.data, large), uint16(n))
	default:
		w.data = binary.BigEndian.AppendUint32(append(w.data, large+1), uint32(n))
	}
}

// Struct begins a struct of n fields.
func (w *Writer) Struct(tag uint32, n int) {
	w.Array(n + 1)
	w.data = binary.BigEndian.AppendUint32(append(w.data, 0xce), tag)
}

// Time writes a time.
func (w *Writer) Time(v time.Time) {
	w.data = append(w.data, 0xc7, 12, kindTime)
	w.data = binary.BigEndian.AppendUint32(w.data, uint32(v.Nanosecond()))
	w.data = binary.BigEndian.AppendUint64(w.data, uint64(v.Unix()))
}

// Duration writes a duration, in seconds.
func (w *Writer) Duration(v time.Duration) {
	text, magnitude := make([]byte, 0, 32), uint64(v)
	if v < 0 {
		text, magnitude = append(text, '-'), -magnitude
	}
	text = strconv.AppendUint(append(text, "PT"...), magnitude/uint64(time.Second), 10)
	if rest := magnitude % uint64(time.Second) / uint64(time.Microsecond); rest != 0 {
		text = append(text, '.')
		text = append(text, strconv.FormatUint(1_000_000+rest, 10)[1:]...)
	}
	w.String(string(append(text, 'S')))
}

// Text writes what a type writes of itself as text.
func (w *Writer) Text(from interface{ MarshalText() ([]byte, error) }) {
	text, err := from.MarshalText()
	if err != nil {
		w.Fail("%w", err)
	}
	w.String(string(text))
}

// WriteNumbers writes a slice of numbers.
func WriteNumbers[T Number](w *Writer, list []T) {
	kind, length := kindOf[T](), 0
	if len(list) > 0 {
		length = len(list) * int(unsafe.Sizeof(list[0]))
	}
	data := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), length)
	if length < leastPart || w.whole {
		w.length(length, 0xc7)
		w.data = append(append(w.data, kind), data...)
		return
	}
	w.data = append(w.data, 0xd7, kind|kindPart)
	w.data = binary.LittleEndian.AppendUint32(w.data, uint32(len(w.parts)))
	w.data = binary.LittleEndian.AppendUint32(w.data, uint32(length))
	w.parts = append(w.parts, part{kind, data})
}

// Any writes a value of one of the types that Reader.Any returns, or of another basic type, or a list or map of them.
func (w *Writer) Any(value any) {
	if !w.Enter() {
		return
	}
	defer w.Leave()
	switch v := value.(type) {
	case nil:
		w.Nil()
	case bool:
		w.Bool(v)
	case int:
		w.Int(int64(v))
	case int8:
		w.Int(int64(v))
	case int16:
		w.Int(int64(v))
	case int32:
		w.Int(int64(v))
	case int64:
		w.Int(v)
	case uint:
		w.Uint(uint64(v))
	case uint8:
		w.Uint(uint64(v))
	case uint16:
		w.Uint(uint64(v))
	case uint32:
		w.Uint(uint64(v))
	case uint64:
		w.Uint(v)
	case float32:
		w.Float32(v)
	case float64:
		w.Float(v)
	case complex128:
		w.Complex(v)
	case string:
		w.String(v)
	case []byte:
		w.Bytes(v)
	case []int:
		WriteNumbers(w, v)
	case []int8:
		WriteNumbers(w, v)
	case []int16:
		WriteNumbers(w, v)
	case []int32:
		WriteNumbers(w, v)
	case []int64:
		WriteNumbers(w, v)
	case []uint:
		WriteNumbers(w, v)
	case []uint16:
		WriteNumbers(w, v)
	case []uint32:
		WriteNumbers(w, v)
	case []uint64:
		WriteNumbers(w, v)
	case []float32:
		WriteNumbers(w, v)
	case []float64:
		WriteNumbers(w, v)
	case time.Time:
		w.Time(v)
	case time.Duration:
		w.Duration(v)
	case []any:
		w.Array(len(v))
		for _, item := range v {
			w.Any(item)
		}
	case []string:
		w.Array(len(v))
		for _, item := range v {
			w.String(item)
		}
	case map[string]any:
		w.Map(len(v))
		for key, item := range v {
			w.String(key)
			w.Any(item)
		}
	case map[string]string:
		w.Map(len(v))
		for key, item := range v {
			w.String(key)
			w.String(item)
		}
	default:
		w.Fail("an `any` holds a %T, which has no value in Python: use numbers, strings, []any, map[string]any", v)
		w.Nil()
	}
}
