// Package ir represents a function as basic blocks with edges between them, finds its dominators and loops, and turns
// it back into WebAssembly's nested blocks.
//
//	Build     nested blocks -> basic blocks
//	Simplify  removes empty blocks, and joins those that follow each other
//	Emit      basic blocks -> nested blocks
//
// What a block computes is kept as WebAssembly's instructions. No values are on their stack between blocks, except a
// condition or an index, which the end of the block takes.
package ir

import (
	"fmt"
	"io"
	"slices"

	"optimizer/wasm"
)

// A Func is a function. Its first block is where it begins; nothing branches there.
type Func struct {
	Index  int
	Name   string
	Type   wasm.FuncType
	Locals wasm.Locals
	Blocks []*Block

	made int // blocks that were ever made: each has its own ID
}

// A Block is a sequence of instructions that run one after the other. Code may contain whole nested blocks of
// WebAssembly, which nothing leaves except through their ends.
type Block struct {
	ID   int
	Code []wasm.Instr
	End  End
}

// An EndKind says how a block ends.
type EndKind int

// How blocks end.
const (
	Jump   EndKind = iota // To[0] follows
	If                    // takes a condition from the stack: To[0] if it is not 0, else To[1]
	Switch                // takes an index from the stack: To[index], or the last one
	Return                // takes the results from the stack
	Trap                  // never reached, or traps
)

// An End is the end of a block, and the blocks that may follow.
type End struct {
	Kind EndKind
	To   []*Block
}

// New adds an empty block, which traps.
func (f *Func) New() *Block {
	b := &Block{ID: f.made, End: End{Kind: Trap}}
	f.made++
	f.Blocks = append(f.Blocks, b)
	return b
}

// NewLocal adds a local.
func (f *Func) NewLocal(t wasm.ValType) int {
	f.Locals = append(slices.Clip(f.Locals), wasm.LocalRun{Count: 1, Type: t})
	return len(f.Locals.Types(f.Type.Params)) - 1
}

// Goto makes the block end with a jump.
func (b *Block) Goto(to *Block) { b.End = End{Jump, []*Block{to}} }

// EndsIn reports whether the block's last instructions have these codes.
func (b *Block) EndsIn(ops ...wasm.Op) bool {
	if len(b.Code) < len(ops) {
		return false
	}
	for i, in := range b.Code[len(b.Code)-len(ops):] {
		if in.Op != ops[i] {
			return false
		}
	}
	return true
}

// Print writes the function in a form for people.
func (f *Func) Print(w io.Writer) {
	fmt.Fprintf(w, "func %d %s\n", f.Index, f.Name)
	for _, b := range f.Blocks {
		fmt.Fprintf(w, "b%d:\n", b.ID)
		for _, in := range b.Code {
			fmt.Fprintf(w, "\t%s\n", in)
		}
		fmt.Fprintf(w, "\t%s\n", b.End)
	}
}

func (e End) String() string {
	text := [...]string{"jump", "if", "switch", "return", "trap"}[e.Kind]
	for _, to := range e.To {
		text += fmt.Sprintf(" b%d", to.ID)
	}
	return text
}
