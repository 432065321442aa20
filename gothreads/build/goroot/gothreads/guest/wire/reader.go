// Package wire encodes the arguments and results of functions that //gothreads:export exports. Only generated code and
// package guest use it.
//
// A message is MessagePack. A struct is an array that begins with its type's tag; the reader takes a map, too. A slice
// of numbers is an extension: its kind, then the numbers as they lie in memory. A large one is a part beside the
// message (see Parts), so that it is copied once.
package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gothreads/guest/slot"
)

// mostDepth bounds how deeply values are nested: Go's stack cannot be exhausted by a message, or by a cycle.
const mostDepth = 500

// A Fault says what is wrong with an argument. Path leads to it: ".degree", "[2]".
type Fault struct {
	Path, Message string
}

// A Reader reads a message. After the first fault all reads return zero values.
type Reader struct {
	Fault *Fault

	in    []byte
	at    int
	parts []byte
	depth int

	// shared: an argument lies in the message, and may be kept. Then no other message gets its memory.
	shared bool
}

// partsMark begins a message that has parts. (MessagePack never uses this byte.)
const partsMark = 0xc1

// NewReader returns a reader of a message. With parts it is: partsMark, three zeros, the head's length and the place of
// the parts in four bytes each, the head, zeros (so that the parts are aligned), the parts.
func NewReader(message []byte) Reader {
	if len(message) < 12 || message[0] != partsMark {
		return Reader{in: message}
	}
	length := uint64(binary.LittleEndian.Uint32(message[4:]))
	begin := uint64(binary.LittleEndian.Uint32(message[8:]))
	if 12+length > begin || begin > uint64(len(message)) {
		r := Reader{}
		r.fail("the message is damaged")
		return r
	}
	return Reader{in: message[12 : 12+length], parts: message[begin:]}
}

func (r *Reader) fail(format string, args ...any) {
	if r.Fault == nil {
		r.Fault = &Fault{Message: fmt.Sprintf(format, args...)}
		r.at = len(r.in)
	}
}

func (r *Reader) expected(what string) {
	got := r.what()
	if got == "float" {
		if probe := *r; math.IsNaN(probe.Float()) {
			got = "the float nan, which pandas and NumPy have for missing values"
		}
	}
	r.fail("expected %s, got %s", what, got)
}

// Bad reports whether there was a fault. If so, it was in the field or argument of this name.
func (r *Reader) Bad(name string) bool {
	if r.Fault == nil {
		return false
	}
	r.Fault.Path = "." + name + r.Fault.Path
	return true
}

// BadAt is Bad for an item of a list.
func (r *Reader) BadAt(index int) bool {
	if r.Fault == nil {
		return false
	}
	r.Fault.Path = "[" + strconv.Itoa(index) + "]" + r.Fault.Path
	return true
}

// BadKey is Bad for an entry of a map.
func (r *Reader) BadKey(key any) bool {
	if r.Fault == nil {
		return false
	}
	text := fmt.Sprintf("%#v", key)
	if len(text) > 40 {
		text = strings.ToValidUTF8(text[:40], "") + "…"
	}
	r.Fault.Path = "[" + text + "]" + r.Fault.Path
	return true
}

// WrongKey is Bad for a key of a map: the path is the map's.
func (r *Reader) WrongKey() bool {
	if r.Fault == nil {
		return false
	}
	if r.Fault.Path != "" { // within the key
		r.Fault.Message = strings.TrimPrefix(r.Fault.Path, ".") + ": " + r.Fault.Message
	}
	*r.Fault = Fault{Message: "a key: " + r.Fault.Message}
	return true
}

// Enter begins a value that may contain values of its own type; Leave ends it.
func (r *Reader) Enter() bool {
	if r.depth++; r.depth > mostDepth {
		r.fail("it is nested too deeply: at most %d levels", mostDepth)
		return false
	}
	return true
}

// Leave ends what Enter began.
func (r *Reader) Leave() { r.depth-- }

// End checks that the message is over.
func (r *Reader) End() bool {
	if r.Fault == nil && r.at != len(r.in) {
		r.fail("the message is too long")
	}
	return r.Fault == nil
}

// peek returns the next byte; nil's code at the end.
func (r *Reader) peek() byte {
	if r.at >= len(r.in) {
		return 0xc0
	}
	return r.in[r.at]
}

// take returns the next n bytes; nil, and a fault, if there are fewer.
func (r *Reader) take(n uint64) []byte {
	if n > uint64(len(r.in)-r.at) {
		r.fail("the message is cut off")
		return nil
	}
	taken := r.in[r.at : r.at+int(n)]
	r.at += int(n)
	return taken
}

// number returns the big-endian number that follows, of 1, 2, 4 or 8 bytes.
func (r *Reader) number(size int) uint64 {
	b := r.take(uint64(size))
	if b == nil {
		return 0
	}
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}

// What values are that have no type: a byte that begins none, and one that is missing.
const nonsense, missing = "a damaged message", "a missing value (NA or NaT of pandas)"

// what names the type of the next value, in Python's words.
func (r *Reader) what() string {
	if r.at >= len(r.in) {
		return "nothing"
	}
	switch c := r.in[r.at]; {
	case c <= 0x7f, c >= 0xe0, c >= 0xcc && c <= 0xd3:
		return "int"
	case c <= 0x8f, c == 0xde, c == 0xdf:
		return "dict"
	case c <= 0x9f, c == 0xdc, c == 0xdd:
		return "list"
	case c <= 0xbf, c >= 0xd9 && c <= 0xdb:
		return "str"
	case c == 0xc0:
		return "None"
	case c == 0xc2, c == 0xc3:
		return "bool"
	case c >= 0xc4 && c <= 0xc6:
		return "bytes"
	case c == 0xca, c == 0xcb:
		return "float"
	case !isExtension(c):
		return nonsense
	}
	probe := *r
	kind, _ := probe.extension()
	switch {
	case kind == kindTime:
		return "datetime"
	case kind == kindComplex:
		return "complex"
	case kind == kindMissing:
		return missing
	}
	return "an array of " + kindName(kind)
}

// Nil reports whether the next value is nil, or missing, and skips it if it is.
func (r *Reader) Nil() bool {
	switch {
	case r.Fault != nil || r.at >= len(r.in):
		return false
	case r.in[r.at] == 0xc0:
		r.at++
		return true
	case isExtension(r.in[r.at]) && r.what() == missing:
		r.extension()
		return true
	}
	return false
}

// Bool reads a bool.
func (r *Reader) Bool() bool {
	switch r.peek() {
	case 0xc2:
		r.at++
		return false
	case 0xc3:
		r.at++
		return true
	}
	r.expected("bool")
	return false
}

// Int reads an integer of so many bits.
func (r *Reader) Int(bits uint) int64 {
	value, ok := r.integer("int")
	if !ok {
		return 0
	}
	if low, high := int64(-1)<<(bits-1), int64(1)<<(bits-1)-1; value.tooBig || value.number < low || value.number > high {
		r.fail("expected an int from %d to %d, got %v", low, high, value)
		return 0
	}
	return value.number
}

// Uint reads an unsigned integer of so many bits.
func (r *Reader) Uint(bits uint) uint64 {
	value, ok := r.integer("int")
	if !ok {
		return 0
	}
	if !value.tooBig && value.number < 0 || bits < 64 && (value.tooBig || uint64(value.number)>>bits != 0) {
		r.fail("expected an int from 0 to %d, got %v", ^uint64(0)>>(64-bits), value)
		return 0
	}
	return uint64(value.number)
}

// An integer from -1<<63 to 1<<64-1. tooBig: it is uint64(number), which int64 cannot hold.
type integer struct {
	number int64
	tooBig bool
}

func (i integer) String() string {
	if i.tooBig {
		return strconv.FormatUint(uint64(i.number), 10)
	}
	return strconv.FormatInt(i.number, 10)
}

func (r *Reader) integer(what string) (integer, bool) {
	c := r.peek()
	switch {
	case c <= 0x7f && r.at < len(r.in):
		r.at++
		return integer{number: int64(c)}, true
	case c >= 0xe0:
		r.at++
		return integer{number: int64(int8(c))}, true
	case c >= 0xcc && c <= 0xcf:
		r.at++
		number := r.number(1 << (c - 0xcc))
		return integer{int64(number), int64(number) < 0}, r.Fault == nil
	case c >= 0xd0 && c <= 0xd3:
		r.at++
		size := 1 << (c - 0xd0)
		number := r.number(size)
		shift := 64 - 8*size
		return integer{number: int64(number<<shift) >> shift}, r.Fault == nil
	}
	r.expected(what)
	return integer{}, false
}

// Float reads a float64. It takes an int, too, if there is a float64 of that value.
func (r *Reader) Float() float64 { return r.float(53) }

// float reads a float64; an int only if it has at most so many digits in binary, besides zeros at the end.
func (r *Reader) float(digits int) float64 {
	switch r.peek() {
	case 0xcb:
		r.at++
		return math.Float64frombits(r.number(8))
	case 0xca:
		r.at++
		return float64(math.Float32frombits(uint32(r.number(4))))
	}
	value, _ := r.integer("float")
	size, number := uint64(value.number), float64(uint64(value.number))
	if value.number < 0 && !value.tooBig {
		size, number = -size, float64(value.number)
	}
	if bits.Len64(size)-bits.TrailingZeros64(size) > digits {
		r.fail("expected a float, got the int %v, which would be rounded: give float(%[1]v)", value)
	}
	return number
}

// Float32 reads a float32, to which a float64 is rounded. Infinity only if it was infinite.
func (r *Reader) Float32() float32 {
	value := r.float(24)
	narrow := float32(value)
	if math.IsInf(float64(narrow), 0) && !math.IsInf(value, 0) {
		r.fail("expected a float from -%[1]g to %[1]g, got %[2]g", math.MaxFloat32, value)
	}
	return narrow
}

// Complex reads a complex128. It takes real numbers, too.
func (r *Reader) Complex() complex128 {
	if !isExtension(r.peek()) {
		return complex(r.Float(), 0)
	}
	before := r.at
	kind, data := r.extension()
	if r.Fault == nil && (kind != kindComplex || len(data) != 16) {
		r.at = before
		r.expected("complex")
	}
	if r.Fault != nil {
		return 0
	}
	return complex(math.Float64frombits(binary.LittleEndian.Uint64(data)),
		math.Float64frombits(binary.LittleEndian.Uint64(data[8:])))
}

// text returns the next string's bytes, which lie in the message.
func (r *Reader) text(what string) []byte {
	c := r.peek()
	switch {
	case c >= 0xa0 && c <= 0xbf:
		r.at++
		return r.take(uint64(c & 0x1f))
	case c >= 0xd9 && c <= 0xdb:
		r.at++
		return r.take(r.number(1 << (c - 0xd9)))
	}
	r.expected(what)
	return nil
}

// String reads a string.
func (r *Reader) String() string {
	text := r.text("str")
	if !utf8.Valid(text) {
		r.fail("expected str, got text that is not valid UTF-8")
		return ""
	}
	return string(text)
}

// binary returns the next bytes, which lie in the message, or in a part.
func (r *Reader) binary() []byte {
	c := r.peek()
	switch {
	case c >= 0xc4 && c <= 0xc6:
		r.at++
		return r.take(r.number(1 << (c - 0xc4)))
	case isExtension(c):
		before := r.at
		kind, data := r.extension()
		if r.Fault == nil && kind == kindUint8 {
			return data
		}
		if r.Fault == nil {
			r.at = before
			r.expected("bytes")
		}
		return nil
	}
	r.expected("bytes")
	return nil
}

// Bytes reads bytes. They are the caller's.
func (r *Reader) Bytes() []byte {
	return r.own(r.binary())
}

// own returns bytes of the message as the caller's: themselves if there are so many that the message's memory is not
// used again, else a copy.
func (r *Reader) own(data []byte) []byte {
	if len(data) > slot.MostLent {
		r.shared = true
		return data[:len(data):len(data)]
	}
	return append(make([]byte, 0, len(data)), data...)
}

// Array reads the length of a list.
func (r *Reader) Array() int { return r.header("list", 0x90, 0xdc, 1) }

// Map reads the length of a map.
func (r *Reader) Map() int { return r.header("dict", 0x80, 0xde, 2) }

// IsMap reports whether the next value is a map.
func (r *Reader) IsMap() bool {
	c := r.peek()
	return c >= 0x80 && c <= 0x8f || c == 0xde || c == 0xdf
}

// Fixed reads the header of a list that must have n items.
func (r *Reader) Fixed(n int) bool {
	if length := r.Array(); r.Fault == nil && length != n {
		r.fail("expected %d items, got %d", n, length)
	}
	return r.Fault == nil
}

func (r *Reader) header(what string, small, large byte, items uint64) int {
	c, n := r.peek(), uint64(0)
	switch {
	case c&0xf0 == small:
		r.at++
		n = uint64(c & 0x0f)
	case c == large:
		r.at++
		n = r.number(2)
	case c == large+1:
		r.at++
		n = r.number(4)
	default:
		r.expected(what)
		return 0
	}
	if n*items > uint64(len(r.in)-r.at) { // each item has a byte: so nobody allocates more than the message has
		r.fail("the message is cut off")
		return 0
	}
	return int(n)
}

// Struct reads the beginning of a struct that is written as an array: its tag. name is the struct's.
func (r *Reader) Struct(name string, tag uint32, fields int) bool {
	before := r.at
	n := r.header(name, 0x90, 0xdc, 1)
	if r.Fault != nil {
		if strings.Contains(r.Fault.Message, "got an array") {
			r.Fault.Message += rows
		}
		return false
	}
	if n > 0 {
		if got, ok := r.integer("int"); ok && n == fields+1 && got.number == int64(tag) {
			return true
		}
	}
	r.Fault, r.at = nil, before
	r.fail("expected %s, got %s", name, r.other())
	return false
}

// Classes has the names of the program's structs, by their tags. Init functions write it.
var Classes = map[uint32]string{}

// other names a list that is not the struct that was expected.
func (r *Reader) other() string {
	probe := *r
	if n := probe.Array(); n > 0 {
		if tag, ok := probe.integer("int"); ok && tag.number > 1<<24 {
			if name := Classes[uint32(tag.number)]; name != "" {
				return name
			}
			return "an object of another class, or of another version of the module"
		}
	}
	return "list" + rows
}

// rows is what to do with a table.
const rows = ` (a dict is taken, too; those of a DataFrame are df.to_dict("records"))`

// Key reads a field's name in a struct that is written as a map. The bytes lie in the message.
func (r *Reader) Key() []byte { return r.text("str") }

// UnknownField ends a struct with a fault.
func (r *Reader) UnknownField(name string, key []byte, fields string) {
	if len(key) > 40 {
		key = key[:40]
	}
	r.fail("%s has no field %q; it has: %s", name, key, fields)
}

// Time reads a time.
func (r *Reader) Time() time.Time {
	before := r.at
	if isExtension(r.peek()) {
		kind, data := r.extension()
		if r.Fault == nil && kind == kindTime {
			switch len(data) {
			case 4:
				return time.Unix(int64(binary.BigEndian.Uint32(data)), 0).UTC()
			case 8:
				v := binary.BigEndian.Uint64(data)
				return time.Unix(int64(v&(1<<34-1)), int64(v>>34)).UTC()
			case 12:
				return time.Unix(int64(binary.BigEndian.Uint64(data[4:])), int64(binary.BigEndian.Uint32(data))).UTC()
			}
		}
	}
	r.at = before
	if r.Fault == nil && r.what() == "str" { // datetimes without a zone are, and dates
		text := string(r.text("str"))
		if _, err := time.Parse("2006-01-02T15:04:05", text); err == nil {
			r.fail("expected a datetime with a time zone, got %s without one "+
				"(value.astimezone() is the same with this machine's)", text)
		} else if _, err := time.Parse(time.DateOnly, text); err == nil {
			r.fail("expected a datetime with a time zone, got the date %s "+
				"(datetime.combine(value, time(), UTC) is its beginning)", text)
		}
		r.at = before
	}
	r.expected("a datetime with a time zone")
	return time.Time{}
}

// Duration reads a duration: "P3DT5.5S", with an optional sign, as ISO 8601 has it.
func (r *Reader) Duration() time.Duration {
	before := r.at
	text := r.text("timedelta")
	if r.Fault != nil {
		return 0
	}
	d, ok := parseDuration(string(text))
	if !ok {
		r.at = before
		r.fail("expected a timedelta that Go's time.Duration can hold (292 years), got %.40q", text)
	}
	return d
}

// parseDuration reads days and seconds.
func parseDuration(text string) (time.Duration, bool) {
	rest, negative := strings.CutPrefix(text, "-")
	rest, ok := strings.CutPrefix(rest, "P")
	if !ok || rest == "" {
		return 0, false
	}
	var total time.Duration
	date, clock, timed := strings.Cut(rest, "T")
	if date != "" {
		days, cut := strings.CutSuffix(date, "D")
		n, err := strconv.ParseUint(days, 10, 32)
		if !cut || err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return 0, false
		}
		total = time.Duration(n) * 24 * time.Hour
	}
	if timed {
		seconds, cut := strings.CutSuffix(clock, "S")
		if !cut || strings.ContainsAny(seconds, "+-eExX_") {
			return 0, false
		}
		d, err := time.ParseDuration(seconds + "s")
		if err != nil || d < 0 || d > math.MaxInt64-total {
			return 0, false
		}
		total += d
	}
	if negative {
		total = -total
	}
	return total, true
}

// Text reads a string for a type that reads itself from text. An empty one is the zero value.
func (r *Reader) Text(into interface{ UnmarshalText([]byte) error }) {
	if text := r.text("str"); len(text) > 0 {
		if err := into.UnmarshalText(append([]byte(nil), text...)); err != nil {
			r.fail("%v", err)
		}
	}
}

// Any reads any value: nil, bool, int64 (or uint64), float64, string, []byte, time.Time, []any, map[string]any.
func (r *Reader) Any() any {
	if !r.Enter() {
		return nil
	}
	defer r.Leave()
	switch what := r.what(); what {
	case "None", missing:
		r.Nil()
		return nil
	case "bool":
		return r.Bool()
	case "int":
		value, _ := r.integer("int")
		if value.tooBig {
			return uint64(value.number)
		}
		return value.number
	case "float":
		return r.Float()
	case "str":
		return r.String()
	case "bytes":
		return r.Bytes()
	case "datetime":
		return r.Time()
	case "complex":
		return r.Complex()
	case "list":
		list := make([]any, r.Array())
		for i := range list {
			if list[i] = r.Any(); r.BadAt(i) {
				return nil
			}
		}
		return list
	case "dict":
		n := r.Map()
		found := make(map[string]any, n)
		for range n {
			key := r.String()
			if r.WrongKey() {
				return nil
			}
			if found[key] = r.Any(); r.BadKey(key) {
				return nil
			}
		}
		return found
	case "nothing", nonsense:
		r.fail("the message is damaged")
		return nil
	}
	return r.anyNumbers()
}

// Sized checks that a list for an array of n items has n.
func (r *Reader) Sized(length, n int) bool {
	if r.Fault == nil && length != n {
		r.fail("expected %d items, got %d", n, length)
	}
	return r.Fault == nil
}
