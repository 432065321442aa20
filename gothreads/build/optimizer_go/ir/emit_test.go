package ir

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"optimizer/wasm"
)

// The functions that the blocks of these tests call: one notes a number, one returns the next number of a sequence.
const noteFunc, chooseFunc = 0, 1

// random makes a function of n blocks, whose edges lead anywhere. Each block notes its number.
func random(r *rand.Rand, n int) *Func {
	f := &Func{Type: wasm.FuncType{Results: []wasm.ValType{wasm.I32}}}
	for range n {
		f.New()
	}
	anywhere := func() *Block { return f.Blocks[1+r.IntN(n-1)] }
	for i, b := range f.Blocks {
		b.Code = []wasm.Instr{wasm.Const(int32(i)), wasm.With(wasm.Call, noteFunc)}
		choose := wasm.With(wasm.Call, chooseFunc)
		switch r.IntN(8) {
		case 0:
			b.Code = append(b.Code, wasm.Const(int32(i)))
			b.End = End{Kind: Return}
		case 1:
			b.Code = append(b.Code, choose)
			b.End = End{Switch, []*Block{anywhere(), anywhere(), anywhere()}}
		case 2, 3, 4:
			b.Goto(anywhere())
		default:
			b.Code = append(b.Code, choose)
			b.End = End{If, []*Block{anywhere(), anywhere()}}
		}
	}
	f.prune()
	return f
}

// A machine runs code, and notes what it does.
type machine struct {
	choices *rand.Rand
	notes   []string
	stack   []int
	locals  [4]int
}

func (m *machine) pop() int {
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v
}

const enough = 200

func (m *machine) step(in wasm.Instr) {
	switch in.Op {
	case wasm.I32Const:
		m.stack = append(m.stack, int(int32(in.Imm)))
	case wasm.I32Eqz:
		if m.pop() == 0 {
			m.stack = append(m.stack, 1)
		} else {
			m.stack = append(m.stack, 0)
		}
	case wasm.LocalGet:
		m.stack = append(m.stack, m.locals[in.Arg])
	case wasm.LocalSet:
		m.locals[in.Arg] = m.pop()
	case wasm.Call:
		if in.Arg == noteFunc {
			m.notes = append(m.notes, fmt.Sprint(m.pop()))
		} else {
			m.stack = append(m.stack, m.choices.IntN(3))
		}
	default:
		panic(in.String())
	}
}

// runBlocks runs a function as blocks.
func (m *machine) runBlocks(f *Func) {
	for b := f.Blocks[0]; len(m.notes) < enough; {
		for _, in := range b.Code {
			m.step(in)
		}
		switch to := b.End.To; b.End.Kind {
		case Jump:
			b = to[0]
		case If:
			if m.pop() != 0 {
				b = to[0]
			} else {
				b = to[1]
			}
		case Switch:
			b = to[min(m.pop(), len(to)-1)]
		case Return:
			m.notes = append(m.notes, fmt.Sprint("return ", m.pop()))
			return
		case Trap:
			m.notes = append(m.notes, "trap")
			return
		}
	}
}

// runCode runs a function as WebAssembly.
func (m *machine) runCode(body *wasm.Body) {
	code := body.Code
	end, loop := map[int]int{}, map[int]bool{}
	var open []int
	for i, in := range code {
		if in.Op.Opens() {
			open = append(open, i)
			loop[i] = in.Op == wasm.OpLoop
		} else if in.Op == wasm.OpEnd && len(open) > 0 {
			end[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
	}
	var labels []int
	for at := 0; len(m.notes) < enough; at++ {
		branch := func(n int) {
			labels = labels[:len(labels)-n]
			begin := labels[len(labels)-1]
			if at = begin; !loop[begin] {
				at = end[begin]
				labels = labels[:len(labels)-1]
			}
		}
		switch in := code[at]; in.Op {
		case wasm.OpBlock, wasm.OpLoop:
			labels = append(labels, at)
		case wasm.OpIf:
			if m.pop() != 0 {
				labels = append(labels, at)
			} else {
				at = end[at]
			}
		case wasm.OpEnd:
			labels = labels[:len(labels)-1]
		case wasm.Br:
			branch(int(in.Arg))
		case wasm.BrIf:
			if m.pop() != 0 {
				branch(int(in.Arg))
			}
		case wasm.BrTable:
			labels := body.Labels(in)
			branch(int(labels[min(m.pop(), len(labels)-1)]))
		case wasm.Return:
			m.notes = append(m.notes, fmt.Sprint("return ", m.pop()))
			return
		case wasm.Unreachable:
			m.notes = append(m.notes, "trap")
			return
		default:
			m.step(in)
		}
	}
}

func TestEmittedCodeDoesWhatTheBlocksDo(t *testing.T) {
	types := []wasm.FuncType{{Params: []wasm.ValType{wasm.I32}}, {Results: []wasm.ValType{wasm.I32}}}
	module := &wasm.Module{Types: types, Funcs: []int{noteFunc, chooseFunc}}
	structured, unrolled := 0, 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 0))
		f := random(r, 2+r.IntN(12))
		run := func(do func(*machine)) string {
			m := &machine{choices: rand.New(rand.NewPCG(seed, 1))}
			do(m)
			return fmt.Sprint(m.notes[:min(len(m.notes), enough)]) // blocks that were joined note more at once
		}
		want := run(func(m *machine) { m.runBlocks(f) })
		for _, change := range []func(){func() {}, f.Simplify, func() { unrolled += unroll(f, 1+r.IntN(4)) }} {
			change()
			body, ok := f.Emit()
			if ok {
				structured++
			}
			if err := module.Validate(f.Type, body); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if got := run(func(m *machine) { m.runBlocks(f) }); got != want {
				t.Fatalf("seed %d: changed blocks do\n%s\nnot\n%s", seed, got, want)
			}
			if got := run(func(m *machine) { m.runCode(body) }); got != want {
				t.Fatalf("seed %d: the code does\n%s\nnot\n%s", seed, got, want)
			}
		}
	}
	if structured < 900 || structured > 8100 {
		t.Errorf("%d of 9000 functions are reducible: the test should have many of both kinds", structured)
	}
	if unrolled < 200 {
		t.Errorf("only %d copies of loops were made", unrolled)
	}
}

// unroll makes so many copies of the small innermost loops, and returns how many blocks that added.
func unroll(f *Func, copies int) int {
	before := len(f.Blocks)
	f.Unroll(func([]*Block) int { return copies }, func(*Block) {})
	return len(f.Blocks) - before
}

func TestUnrolledLoopsBranchBackOnce(t *testing.T) {
	f := &Func{}
	b := make([]*Block, 5)
	for i := range b {
		b[i] = f.New()
	}
	// A loop of 2 and 3, which 2 may leave, in one of 1 to 3.
	b[0].Goto(b[1])
	b[1].Goto(b[2])
	b[2].End = End{If, []*Block{b[4], b[3]}}
	b[3].End = End{If, []*Block{b[2], b[1]}}
	for _, block := range b {
		block.Code = []wasm.Instr{wasm.Const(int32(block.ID)), wasm.With(wasm.Call, noteFunc)}
	}
	var asked [][]*Block
	dropped := 0
	f.Unroll(func(loop []*Block) int {
		asked = append(asked, loop)
		return 3
	}, func(*Block) { dropped++ })
	if len(asked) != 1 || len(asked[0]) != 2 || asked[0][0] != b[2] || dropped != 4 {
		t.Fatalf("loops: %v, and %d blocks were copied: want the inner one, and 4", asked, dropped)
	}
	g, backward := f.analyse(), 0
	for from, block := range g.order {
		for _, to := range block.End.To {
			if g.number[to] <= from {
				backward++
			}
		}
	}
	if want := 1 + 3; backward != want { // of the inner loop one, of the outer one from each copy
		t.Errorf("%d branches back, want %d", backward, want)
	}
}

func TestDominatorsAndLoops(t *testing.T) {
	f := &Func{}
	b := make([]*Block, 6)
	for i := range b {
		b[i] = f.New()
	}
	// 0 -> 1 -> 2 or 3 -> 4 -> 1 or 5: a loop that begins at 1, with an if in it.
	b[0].Goto(b[1])
	b[1].End = End{If, []*Block{b[2], b[3]}}
	b[2].Goto(b[4])
	b[3].Goto(b[4])
	b[4].End = End{If, []*Block{b[1], b[5]}}
	g := f.analyse()
	idom := map[int]int{}
	for i, block := range g.order {
		idom[block.ID] = g.order[g.idom[i]].ID
		if g.loop[i] != (block == b[1]) {
			t.Errorf("b%d: loop is %v", block.ID, g.loop[i])
		}
		if g.merge[i] != (block == b[4]) {
			t.Errorf("b%d: merge is %v", block.ID, g.merge[i])
		}
	}
	if want := map[int]int{0: 0, 1: 0, 2: 1, 3: 1, 4: 1, 5: 4}; fmt.Sprint(idom) != fmt.Sprint(want) {
		t.Errorf("immediate dominators: %v, want %v", idom, want)
	}
	if !g.proper {
		t.Error("the function is reducible")
	}
}

func TestLoopDepthAndCopies(t *testing.T) {
	f := &Func{}
	b := make([]*Block, 7)
	for i := range b {
		b[i] = f.New()
	}
	// A loop from 1 to 5, in it one of 2 and 3; 4 may go on with the outer one.
	b[0].Goto(b[1])
	b[1].Goto(b[2])
	b[2].Goto(b[3])
	b[3].End = End{If, []*Block{b[2], b[4]}}
	b[4].End = End{If, []*Block{b[1], b[5]}}
	b[5].End = End{If, []*Block{b[1], b[6]}}
	depth := f.LoopDepth()
	for i, want := range []int{0, 1, 2, 2, 1, 1, 0} {
		if depth[b[i]] != want {
			t.Errorf("b%d is in %d loops, not %d", i, depth[b[i]], want)
		}
	}
	b[4].Code = []wasm.Instr{wasm.Const(4)}
	copied := f.From(b[4])
	if n := len(copied.Blocks); n != 7 { // the entry, and all but b0
		t.Errorf("the copy has %d blocks", n)
	}
	first := copied.Blocks[0].End.To[0]
	first.Code[0] = wasm.Const(5)
	first.End.To[0] = first
	if !b[4].Code[0].IsConst(4) || b[4].End.To[0] != b[1] {
		t.Error("the copy shares something with the function")
	}
}
