package fast

import (
	"encoding/hex"

	"optimizer/wasm"
)

// The functions with which Go's runtime compares memory are written in assembly, and compare bytes. They get loops before
// that, which pass over equal words. Such a function is known by its code, which is the same in Go 1.25 to 1.27.
var (
	// memeqbody(p, q, n int64) bool, after it has compared p and q.
	memeqBegin = unhex("00 2000 2001 51 0440 4201 0f 0b")
	memeqRest  = unhex("0340 2002 50 0440 4201 0f 0b 2000 a7 310000 2001 a7 310000 52 0440 4200 0f 0b" +
		"2000 4201 7c 2100 2001 4201 7c 2101 2002 4201 7d 2102 0c00 0b 00 00 0b")
	// memcmp(p, q, n int32) int32.
	memcmpBegin = unhex("01 02 7f")
	memcmpRest  = unhex("2002 047f 0340 2000 2c0000 2203 2001 2c0000 2204 46 0440 2000 4101 6a 2100 2001 4101 6a 2101" +
		"4100 2002 417f 6a 2202 45 0d03 1a 0c01 0b 0b 2003 41ff01 71 2004 41ff01 71 6b 05 4100 0b 0f 00 0b")
)

// A comparison has the instructions for numbers of 64 bits, or of 32: p, the local 0, and q, the local 1, are where the
// memory lies, and n, the local 2, is how many bytes are left.
type comparison struct {
	number        func(int) wasm.Instr
	add, sub      wasm.Op
	less, atLeast wasm.Op
	address       []wasm.Instr // what makes an address of p or q
}

var (
	comparison64 = comparison{func(n int) wasm.Instr { return wasm.Instr{Op: wasm.I64Const, Imm: uint64(n)} },
		0x7c, 0x7d, i64LessU, 0x5a, []wasm.Instr{{Op: i32WrapI64}}}
	comparison32 = comparison{func(n int) wasm.Instr { return wasm.Const(int32(n)) }, wasm.I32Add, wasm.I32Sub, 0x49, 0x4f, nil}
)

// compareWords makes the runtime's functions that compare memory pass over equal words first.
func compareWords(m *wasm.Module) {
	memeq, memcmp := string(memeqBegin)+string(memeqRest), string(memcmpBegin)+string(memcmpRest)
	for i, body := range m.Bodies {
		switch string(body) {
		case memeq:
			m.Bodies[i] = around(memeqBegin, comparison64.words(), memeqRest)
		case memcmp:
			m.Bodies[i] = around(memcmpBegin, comparison32.words(), memcmpRest)
		}
	}
}

func around(begin []byte, code []wasm.Instr, rest []byte) []byte {
	out := append([]byte(nil), begin...)
	for _, in := range code {
		out = in.Append(out, nil)
	}
	return append(out, rest...)
}

// words returns code that moves p and q behind equal words: first four at a time, then one. Fewer than 8 bytes, as most
// texts have, cost a branch.
func (c comparison) words() []wasm.Instr {
	block, loop, end := wasm.Open(wasm.OpBlock), wasm.Open(wasm.OpLoop), wasm.Instr{Op: wasm.OpEnd}
	code := append([]wasm.Instr{block}, c.left(c.less, 8, 0)...)
	code = append(append(code, block), c.left(c.less, 32, 0)...)
	code = append(code, loop)
	code = append(append(append(code, c.differ(4, 1)...), c.pass(32)...), c.left(c.atLeast, 32, 0)...)
	code = append(append(code, end, end), c.left(c.less, 8, 0)...)
	code = append(code, loop)
	code = append(append(append(code, c.differ(1, 1)...), c.pass(8)...), c.left(c.atLeast, 8, 0)...)
	return append(code, end, end)
}

// left returns a branch if n is less than a number, or at least that.
func (c comparison) left(than wasm.Op, number, label int) []wasm.Instr {
	return []wasm.Instr{wasm.With(wasm.LocalGet, 2), c.number(number), {Op: than}, wasm.With(wasm.BrIf, label)}
}

// differ returns a branch if the next words differ.
func (c comparison) differ(words, label int) (code []wasm.Instr) {
	for i := range words {
		for pointer := range 2 {
			code = append(append(code, wasm.With(wasm.LocalGet, pointer)), c.address...)
			code = append(code, wasm.Instr{Op: i64Load, Imm: uint64(8 * i)})
		}
		code = append(code, wasm.Instr{Op: i64Xor})
		if i > 0 {
			code = append(code, wasm.Instr{Op: i64Or})
		}
	}
	return append(code, wasm.Instr{Op: wasm.I64Const}, wasm.Instr{Op: i64NotEqual}, wasm.With(wasm.BrIf, label))
}

// pass returns code that passes over some bytes.
func (c comparison) pass(bytes int) (code []wasm.Instr) {
	for local, op := range []wasm.Op{c.add, c.add, c.sub} {
		code = append(code, wasm.With(wasm.LocalGet, local), c.number(bytes), wasm.Instr{Op: op}, wasm.With(wasm.LocalSet, local))
	}
	return code
}

func unhex(text string) []byte {
	var digits []byte
	for _, letter := range []byte(text) {
		if letter != ' ' {
			digits = append(digits, letter)
		}
	}
	bytes := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(bytes, digits); err != nil {
		panic(err)
	}
	return bytes
}

const (
	i64Xor      wasm.Op = 0x85
	i64Or       wasm.Op = 0x84
	i64NotEqual wasm.Op = 0x52
)
