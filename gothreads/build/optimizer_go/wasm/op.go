package wasm

import (
	"fmt"
	"strings"
)

// An Op is an instruction's code. Instructions with a prefix have their number in the lower 12 bits, and above it 1 for
// the first prefix, and so on.
type Op uint16

// The instructions that the other packages name.
const (
	Unreachable  Op = 0x00
	OpBlock      Op = 0x02
	OpLoop       Op = 0x03
	OpIf         Op = 0x04
	OpElse       Op = 0x05
	OpEnd        Op = 0x0b
	Br           Op = 0x0c
	BrIf         Op = 0x0d
	BrTable      Op = 0x0e
	Return       Op = 0x0f
	Call         Op = 0x10
	CallIndirect Op = 0x11
	Drop         Op = 0x1a
	Select       Op = 0x1b
	SelectTyped  Op = 0x1c
	LocalGet     Op = 0x20
	LocalSet     Op = 0x21
	LocalTee     Op = 0x22
	GlobalGet    Op = 0x23
	GlobalSet    Op = 0x24
	I32Const     Op = 0x41
	I64Const     Op = 0x42
	I32Eqz       Op = 0x45
	I32Eq        Op = 0x46
	I32Ne        Op = 0x47
	I32Add       Op = 0x6a
	I32Sub       Op = 0x6b
	I32Or        Op = 0x72

	firstPrefix      = 0xfc
	lastPrefix       = 0xfe
	prefixShift      = 12
	prefixNumbers    = 1 // 0xfc: saturating truncations and bulk memory
	prefixVectors    = 2 // 0xfd
	prefixAtomics    = 3 // 0xfe
	memoryInit    Op = prefixNumbers<<prefixShift | 8
	dataDrop      Op = prefixNumbers<<prefixShift | 9
	MemoryCopy    Op = prefixNumbers<<prefixShift | 10
	MemoryFill    Op = prefixNumbers<<prefixShift | 11
	vectorConst   Op = prefixVectors<<prefixShift | 12
	vectorMix     Op = prefixVectors<<prefixShift | 13
	atomicFence   Op = prefixAtomics<<prefixShift | 3

	V128Load   Op = prefixVectors << prefixShift
	V128Store  Op = prefixVectors<<prefixShift | 0x0b
	I8x16Splat Op = prefixVectors<<prefixShift | 0x0f
)

// Instructions that exist only between passes: package fast makes them, and turns them into others. They call by Go's
// convention.
const (
	GoCall         Op = 4<<prefixShift + iota // calls function Arg from its beginning; pushes what it returns
	GoCallIndirect                            // takes a number from the stack and calls that function, from Imm on
	GoEnter                                   // calls function Arg, of another convention, which uses Go's stack
	GoLeave                                   // calls function Arg from its beginning, for the last time here
)

// An immediate says what follows an instruction's code.
type immediate byte

const (
	unknown    immediate = iota
	none                 //
	blockType            // a type of values, or none
	index                // one number: a label, function, local, global, data segment or memory
	twoIndices           // two numbers
	labels               // br_table's
	memory               // alignment and offset
	memoryLane           // the same, and a lane
	lane                 // a lane
	signed               // a signed number
	four                 // 4 bytes
	eight                // 8 bytes
	sixteen              // 16 bytes
	valueTypes           // select's
	zero                 // a byte that is 0
	noForm               // an instruction that exists only between passes
)

// An opInfo describes an instruction. signature is what it pops, ":" and what it pushes: i and I are i32 and i64, f and
// F are f32 and f64, v is v128. It is "" for instructions whose types depend on something else, or are not known here.
type opInfo struct {
	name      string
	signature string
	immediate immediate
}

// numeric lists the instructions from 0x45 on in their order, grouped by signature.
const numeric = `
i:i i32.eqz
ii:i i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u
I:i i64.eqz
II:i i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u
ff:i f32.eq f32.ne f32.lt f32.gt f32.le f32.ge
FF:i f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
i:i i32.clz i32.ctz i32.popcnt
ii:i i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr
I:I i64.clz i64.ctz i64.popcnt
II:I i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u i64.and i64.or i64.xor i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr
f:f f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt
ff:f f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign
F:F f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt
FF:F f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign
I:i i32.wrap_i64
f:i i32.trunc_f32_s i32.trunc_f32_u
F:i i32.trunc_f64_s i32.trunc_f64_u
i:I i64.extend_i32_s i64.extend_i32_u
f:I i64.trunc_f32_s i64.trunc_f32_u
F:I i64.trunc_f64_s i64.trunc_f64_u
i:f f32.convert_i32_s f32.convert_i32_u
I:f f32.convert_i64_s f32.convert_i64_u
F:f f32.demote_f64
i:F f64.convert_i32_s f64.convert_i32_u
I:F f64.convert_i64_s f64.convert_i64_u
f:F f64.promote_f32
f:i i32.reinterpret_f32
F:I i64.reinterpret_f64
i:f f32.reinterpret_i32
I:F f64.reinterpret_i64
i:i i32.extend8_s i32.extend16_s
I:I i64.extend8_s i64.extend16_s i64.extend32_s`

// memories lists the loads and stores from 0x28 on.
const memories = `
i:i i32.load
i:I i64.load
i:f f32.load
i:F f64.load
i:i i32.load8_s i32.load8_u i32.load16_s i32.load16_u
i:I i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u
ii: i32.store
iI: i64.store
if: f32.store
iF: f64.store
ii: i32.store8 i32.store16
iI: i64.store8 i64.store16 i64.store32`

// truncations lists those that saturate, from 0xfc 0 on.
const truncations = `
f:i i32.trunc_sat_f32_s i32.trunc_sat_f32_u
F:i i32.trunc_sat_f64_s i32.trunc_sat_f64_u
f:I i64.trunc_sat_f32_s i64.trunc_sat_f32_u
F:I i64.trunc_sat_f64_s i64.trunc_sat_f64_u`

// atomicAccesses lists the atomic loads, stores and changes from 0xfe 0x10 on: seven widths each.
const atomicAccesses = `
i:i i32.atomic.load
i:I i64.atomic.load
i:i i32.atomic.load8_u i32.atomic.load16_u
i:I i64.atomic.load8_u i64.atomic.load16_u i64.atomic.load32_u
ii: i32.atomic.store
iI: i64.atomic.store
ii: i32.atomic.store8 i32.atomic.store16
iI: i64.atomic.store8 i64.atomic.store16 i64.atomic.store32`

// vectors has the instructions for vectors that the optimizer uses.
var vectors = map[Op]opInfo{
	0x00: {"v128.load", "i:v", memory}, 0x0b: {"v128.store", "iv:", memory}, 0x0f: {"i8x16.splat", "i:v", none},
	0x23: {"i8x16.eq", "vv:v", none}, 0x4e: {"v128.and", "vv:v", none}, 0x50: {"v128.or", "vv:v", none},
	0x51: {"v128.xor", "vv:v", none}, 0x53: {"v128.any_true", "v:i", none}, 0x64: {"i8x16.bitmask", "v:i", none},
}

var ops = opTable()

func opTable() map[Op]opInfo {
	table := map[Op]opInfo{
		Unreachable: {"unreachable", "", none}, 0x01: {"nop", ":", none},
		OpBlock: {"block", "", blockType}, OpLoop: {"loop", "", blockType}, OpIf: {"if", "", blockType},
		OpElse: {"else", "", none}, OpEnd: {"end", "", none},
		Br: {"br", "", index}, BrIf: {"br_if", "", index}, BrTable: {"br_table", "", labels}, Return: {"return", "", none},
		Call: {"call", "", index}, CallIndirect: {"call_indirect", "", twoIndices},
		Drop: {"drop", "", none}, Select: {"select", "", none}, SelectTyped: {"select", "", valueTypes},
		LocalGet: {"local.get", "", index}, LocalSet: {"local.set", "", index}, LocalTee: {"local.tee", "", index},
		GlobalGet: {"global.get", "", index}, GlobalSet: {"global.set", "", index},
		0x3f: {"memory.size", ":i", index}, 0x40: {"memory.grow", "i:i", index},
		GoCall: {"go.call", "", noForm}, GoCallIndirect: {"go.call_indirect", "", noForm},
		GoEnter: {"go.enter", "", noForm}, GoLeave: {"go.leave", "", noForm},
		I32Const: {"i32.const", ":i", signed}, I64Const: {"i64.const", ":I", signed},
		0x43: {"f32.const", ":f", four}, 0x44: {"f64.const", ":F", eight},
		memoryInit: {"memory.init", "iii:", twoIndices}, dataDrop: {"data.drop", ":", index},
		MemoryCopy: {"memory.copy", "iii:", twoIndices}, MemoryFill: {"memory.fill", "iii:", index},
		prefixAtomics << prefixShift:   {"memory.atomic.notify", "ii:i", memory},
		prefixAtomics<<prefixShift | 1: {"memory.atomic.wait32", "iiI:i", memory},
		prefixAtomics<<prefixShift | 2: {"memory.atomic.wait64", "iII:i", memory},
		atomicFence:                    {"atomic.fence", ":", zero},
	}
	list(table, 0x45, numeric, none)
	list(table, 0x28, memories, memory)
	list(table, prefixNumbers<<prefixShift, truncations, none)
	list(table, prefixAtomics<<prefixShift|0x10, atomicAccesses, memory)
	at := Op(prefixAtomics<<prefixShift | 0x1e)
	for _, change := range []string{"add", "sub", "and", "or", "xor", "xchg", "cmpxchg"} {
		for _, width := range []string{"i i32", "I i64", "i i32 8", "i i32 16", "I i64 8", "I i64 16", "I i64 32"} {
			part := strings.Fields(width)
			operands, suffix := part[0], ""
			if change == "cmpxchg" {
				operands += operands
			}
			if len(part) == 3 {
				suffix = "_u"
				part[1] += ".atomic.rmw" + part[2]
			} else {
				part[1] += ".atomic.rmw"
			}
			table[at] = opInfo{part[1] + "." + change + suffix, "i" + operands + ":" + part[0], memory}
			at++
		}
	}
	// SIMD: what follows each code, so that functions with it can be read and written. Of a few, the types follow.
	for n := Op(0); n <= 0x113; n++ {
		kind := none
		switch {
		case n <= 11 || n == 92 || n == 93:
			kind = memory
		case n == 12 || n == 13:
			kind = sixteen
		case n >= 21 && n <= 34:
			kind = lane
		case n >= 84 && n <= 91:
			kind = memoryLane
		}
		table[prefixVectors<<prefixShift|n] = opInfo{fmt.Sprintf("v128.%#x", uint32(n)), "", kind}
	}
	for n, known := range vectors {
		table[prefixVectors<<prefixShift|n] = known
	}
	return table
}

// list adds the instructions of a text to the table, in the order of their codes from first on.
func list(table map[Op]opInfo, first Op, text string, kind immediate) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		words := strings.Fields(line)
		for _, name := range words[1:] {
			table[first] = opInfo{name, words[0], kind}
			first++
		}
	}
}

// plain has what ops has for codes without a prefix: looking them up is most of the work of reading a function.
var plain = func() (infos [256]opInfo) {
	for op, info := range ops {
		if op < 256 {
			infos[op] = info
		}
	}
	return infos
}()

func (op Op) info() opInfo {
	if op < 256 {
		return plain[op]
	}
	return ops[op]
}

// String returns the instruction's name in WebAssembly's text format.
func (op Op) String() string {
	if name := op.info().name; name != "" {
		return name
	}
	return fmt.Sprintf("op(%#x)", uint32(op))
}

// Opens reports whether the instruction begins a block.
func (op Op) Opens() bool { return op == OpBlock || op == OpLoop || op == OpIf }

// IsVector reports whether the instruction is one for vectors (SIMD), which an engine may lack.
func (op Op) IsVector() bool { return op>>prefixShift == prefixVectors }
