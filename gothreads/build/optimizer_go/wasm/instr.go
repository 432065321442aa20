package wasm

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// An Instr is one instruction. What follows its code is, by kind:
//
//	a label, function, local, global, segment: Arg; Imm is the number's length in bytes if it is written longer than
//	necessary, as Go's linker does with functions
//	a lane, the type of a block: Arg
//	two indices: Arg and Imm
//	an access to memory: Arg is the alignment (its exponent), and above bit 8 the lane, if there is one; Imm the offset
//	a constant: Imm, its bits
//	16 bytes, br_table's labels (the default last), select's types: Imm, their index in the body's Lists
//
// There are tens of millions in a large module, so an Instr is small, and the collector need not look at it.
//
// An alignment with bit 6 set is followed by a memory's index; the instructions of the modules here have none.
type Instr struct {
	Op  Op
	Arg uint32
	Imm uint64
}

// Lists are what does not fit into the instructions of a body.
type Lists [][]uint32

// add adds a list, and returns its index.
func (l *Lists) add(list []uint32) uint64 {
	*l = append(*l, list)
	return uint64(len(*l) - 1)
}

// noType is the type of a block without results, as it is written.
const noType = 0x40

// Const returns i32.const value.
func Const(value int32) Instr { return Instr{Op: I32Const, Imm: uint64(int64(value))} }

// With returns an instruction with one index after it, or with nothing.
func With(op Op, arg int) Instr { return Instr{Op: op, Arg: uint32(arg)} }

// Open returns an instruction that begins a block without parameters and results.
func Open(op Op) Instr { return Instr{Op: op, Arg: noType} }

// HasNoType reports whether a block has neither parameters nor results.
func (in Instr) HasNoType() bool { return in.Arg == noType }

// Is reports whether the instruction has this code, with this index after it.
func (in Instr) Is(op Op, arg int) bool { return in.Op == op && in.Arg == uint32(arg) }

// IsConst reports whether the instruction is i32.const value.
func (in Instr) IsConst(value int32) bool { return in.Op == I32Const && in.Imm == uint64(int64(value)) }

// instr reads one instruction.
func (r *Reader) instr(lists *Lists) Instr {
	first := r.Byte()
	in := Instr{Op: Op(first)}
	if first >= firstPrefix && first <= lastPrefix {
		number := r.U32()
		if number >= 1<<prefixShift {
			r.Fail("unknown instruction %#x %#x", first, number)
			return in
		}
		in.Op = Op(first-firstPrefix+1)<<prefixShift | Op(number)
	}
	switch in.Op.info().immediate {
	case none:
	case blockType:
		if in.Arg = uint32(r.Byte()); in.Arg < noType || in.Arg >= 0x80 {
			r.Fail("a block with a type of the types section")
		}
	case index:
		begin := r.At()
		in.Arg = r.U32()
		if length := r.At() - begin; length > 1 && in.Arg>>(7*(length-1)) == 0 {
			in.Imm = uint64(length)
		}
	case twoIndices:
		in.Arg, in.Imm = r.U32(), uint64(r.U32())
	case labels:
		labels := make([]uint32, r.Count()+1)
		for i := range labels {
			labels[i] = r.U32()
		}
		in.Imm = lists.add(labels)
	case memory, memoryLane:
		if in.Arg = r.U32(); in.Arg >= 1<<6 {
			r.Fail("an access to another memory")
		}
		in.Imm = uint64(r.U32())
		if in.Op.info().immediate == memoryLane {
			in.Arg |= uint32(r.Byte()) << 8
		}
	case lane:
		in.Arg = uint32(r.Byte())
	case signed:
		in.Imm = uint64(r.Signed())
	case four:
		if b := r.Bytes(4); b != nil {
			in.Imm = uint64(binary.LittleEndian.Uint32(b))
		}
	case eight:
		if b := r.Bytes(8); b != nil {
			in.Imm = binary.LittleEndian.Uint64(b)
		}
	case sixteen:
		if b := r.Bytes(16); b != nil {
			var words []uint32
			for i := 0; i < 16; i += 4 {
				words = append(words, binary.LittleEndian.Uint32(b[i:]))
			}
			in.Imm = lists.add(words)
		}
	case valueTypes:
		types := make([]uint32, r.Count())
		for i := range types {
			types[i] = uint32(r.Byte())
		}
		in.Imm = lists.add(types)
	case zero:
		if r.Byte() != 0 {
			r.Fail("%s with an unknown byte", in.Op)
		}
	default:
		r.Fail("unknown instruction %s", in.Op)
	}
	return in
}

// Append appends the instruction as it is written.
func (in Instr) Append(b []byte, lists Lists) []byte {
	if in.Op < 256 {
		b = append(b, byte(in.Op))
	} else {
		b = AppendUnsigned(append(b, byte(in.Op>>prefixShift)-1+firstPrefix), uint64(in.Op&(1<<prefixShift-1)))
	}
	switch in.Op.info().immediate {
	case blockType, lane:
		b = append(b, byte(in.Arg))
	case index:
		begin := len(b)
		b = AppendUnsigned(b, uint64(in.Arg))
		for len(b)-begin < int(in.Imm) {
			b[len(b)-1] |= 0x80
			b = append(b, 0)
		}
	case twoIndices, memory:
		b = AppendUnsigned(AppendUnsigned(b, uint64(in.Arg)), in.Imm)
	case memoryLane:
		b = append(AppendUnsigned(AppendUnsigned(b, uint64(in.Arg&0xff)), in.Imm), byte(in.Arg>>8))
	case labels:
		b = AppendUnsigned(b, uint64(len(lists[in.Imm])-1))
		for _, label := range lists[in.Imm] {
			b = AppendUnsigned(b, uint64(label))
		}
	case signed:
		b = AppendSigned(b, int64(in.Imm))
	case four:
		b = binary.LittleEndian.AppendUint32(b, uint32(in.Imm))
	case eight:
		b = binary.LittleEndian.AppendUint64(b, in.Imm)
	case sixteen:
		for _, word := range lists[in.Imm] {
			b = binary.LittleEndian.AppendUint32(b, word)
		}
	case valueTypes:
		b = AppendUnsigned(b, uint64(len(lists[in.Imm])))
		for _, t := range lists[in.Imm] {
			b = append(b, byte(t))
		}
	case zero:
		b = append(b, 0)
	case none:
	default:
		panic(fmt.Sprintf("%s has no binary form", in.Op))
	}
	return b
}

// String returns the instruction in a form near WebAssembly's text format.
func (in Instr) String() string {
	var s strings.Builder
	s.WriteString(in.Op.String())
	switch in.Op.info().immediate {
	case blockType:
		if !in.HasNoType() {
			fmt.Fprintf(&s, " %s", ValType(in.Arg))
		}
	case index, lane, noForm:
		fmt.Fprintf(&s, " %d", in.Arg)
	case twoIndices:
		fmt.Fprintf(&s, " %d %d", in.Arg, in.Imm)
	case memory, memoryLane:
		fmt.Fprintf(&s, " offset=%d", in.Imm)
	case signed:
		fmt.Fprintf(&s, " %d", int64(in.Imm))
	case four, eight:
		fmt.Fprintf(&s, " %#x", in.Imm)
	}
	return s.String()
}
